"""What `pagedkv baselines diff` can compare: folders and commits."""

import os
import shutil
from pathlib import Path

import pytest

from pytest_pagedkv.baselines.schema import Entry
from tests.baselines.conftest import Project, changed, key


@pytest.fixture
def history(folder: Project) -> Project:
    """Two branches: n is 1 where they part, 2 and then 3 on main, 10 on the feature, 11 in its work tree."""
    folder.git("init", "--quiet", "--initial-branch=main")
    for value in (1, 2, 3):
        folder.store({key("n"): Entry({"n": value})})
        folder.commit()
    folder.git("checkout", "--quiet", "-b", "feature", "HEAD~2")
    folder.store({key("n"): Entry({"n": 10})})
    folder.commit()
    folder.git("tag", "--annotate", "v1", "--message", "a tag")
    folder.store({key("n"): Entry({"n": 11})})
    return folder


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((), (10, 11)),
        (("HEAD",), (10, 11)),
        (("main",), (3, 11)),
        (("main~1", "v1"), (2, 10)),
        (("main", "feature"), (3, 10)),
        (("main...",), (1, 11)),
        (("...main", "main"), (1, 3)),
        (("main...feature", "feature"), (1, 10)),
        (("main", "perf_baselines"), (3, 11)),
        (("./perf_baselines", "main"), (11, 3)),
    ],
)
def test_commits(history: Project, arguments: tuple[str, ...], numbers: tuple[int, int]) -> None:
    """Branches, tags, ancestors and merge bases, against each other or the folder as it is."""
    assert changed(history, *arguments) == {"n": numbers}


def test_labels_say_which_commit(history: Project) -> None:
    """A commit is named as the user did, with the start of its hash."""
    sha = history.git("rev-parse", "--short=7", "main~1")

    assert history.baselines("diff", "main~1").stdout.startswith(f"main~1@{sha} -> perf_baselines\n")


def test_a_name_that_is_a_path_and_a_commit(history: Project) -> None:
    """It is the path if it has a separator or a dot in front, and else the commit."""
    history.store({key("n"): Entry({"n": 77})}, "main")

    assert changed(history, "main") == {"n": (3, 11)}
    assert changed(history, "./main") == {"n": (77, 11)}
    assert changed(history, str(history.path / "main")) == {"n": (77, 11)}
    assert changed(history, "main/") == {"n": (77, 11)}
    assert changed(history, "...main") == {"n": (1, 11)}
    (history.path / "main").rename(history.path / "...main")
    assert changed(history, "...main") == {"n": (77, 11)}


def test_from_a_folder_below(history: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of baselines is found from where the user is, here and in the commit."""
    monkeypatch.chdir(history.path / "tests")

    assert changed(history, "main", "--dir", "../perf_baselines") == {"n": (3, 11)}


def test_the_repository_is_that_of_the_baselines(
    history: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From outside, and under a hook that points git elsewhere, --dir says whose commits are meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))

    assert changed(history, "main", "--dir", "project/perf_baselines") == {"n": (3, 11)}


def test_a_folder_of_any_name(history: Project) -> None:
    """Spaces, brackets and letters of the world in the folder's name are found in commits."""
    history.store({key("n"): Entry({"n": 5})}, "ä [b] *")
    history.commit()
    history.store({key("n"): Entry({"n": 6})}, "ä [b] *")

    assert changed(history, "--dir", "ä [b] *") == {"n": (5, 6)}
    assert changed(history, "HEAD", "ä [b] *", "--dir", "perf_baselines") == {"n": (11, 6)}


def test_baselines_that_one_side_does_not_have(project: Project) -> None:
    """The first baselines are new, and a folder that was deleted is gone, even with its parent."""
    project.git("mv", "perf_baselines", "elsewhere")
    project.commit()

    assert set(changed(project, "HEAD~1", "HEAD", "--dir", "elsewhere").values()) == {
        (None, 640),
        (None, 10),
        (None, 1),
    }
    assert set(changed(project, "HEAD~1").values()) == {(640, None), (10, None), (1, None)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "'nope' is neither a file or folder here, nor a commit of "),
        (("mian",), "; near ones: main"),
        (("./nope",), "'./nope' is neither a file or folder here"),
        (("main..HEAD",), "give the two ends of a range as two arguments"),
        (("HEAD~9",), "'HEAD~9' is neither"),
        (
            ("main", "tests"),
            "tests: holds no baselines; name the folder that holds counters/ or timing/",
        ),
        (("main", "perf_baselines/counters"), "perf_baselines/counters: holds no baselines"),
        (("main", "tests/perf/test_pool.py"), "tests/perf/test_pool.py: no run file, as it is not JSON"),
        (
            ("main", "perf_baselines/counters/test_pool.json"),
            "is a file of baselines; name its folder, the one that holds counters/",
        ),
        (("main", "main", "--dir", "typo"), "has baselines in typo: name their folder with --dir"),
        (("main", "main", "--dir", "/"), "is in no git repository that can be read"),
    ],
)
def test_what_is_not_there(project: Project, arguments: tuple[str, ...], message: str) -> None:
    """A name that means nothing is told with what it could have meant."""
    assert message in project.fails("diff", *arguments)


def test_a_branch_that_only_the_remote_has(project: Project, tmp_path: Path) -> None:
    """In a clone without the local branch, the remote's one is the near one."""
    project.git("branch", "release")
    clone = _cloned(project, tmp_path)

    assert "near ones: origin/release" in clone.fails("diff", "release")


def test_a_shallow_clone(project: Project, tmp_path: Path) -> None:
    """A commit that was cut off is told with how to get it."""
    project.commit("the second")
    clone = _cloned(project, tmp_path, "--depth=1")

    for name in ("HEAD~1", "v1"):
        message = clone.fails("diff", name)
        assert "which is a shallow clone" in message
        assert "git fetch --unshallow" in message
        assert "fetch-depth: 0" in message


def test_no_common_commit(project: Project, tmp_path: Path) -> None:
    """A merge base that does not exist, or was cut off, is no empty result."""
    project.git("checkout", "--quiet", "--orphan", "other")
    project.commit()

    assert "main...: the two have no commit in common here" in project.fails("diff", "main...")


def _cloned(project: Project, tmp_path: Path, *options: str) -> Project:
    project.git("clone", "--quiet", *options, f"file://{project.path}", str(tmp_path / "clone"))
    os.chdir(tmp_path / "clone")
    return Project(tmp_path / "clone", project.capsys)


def test_without_repository(folder: Project) -> None:
    """Outside of a repository folders can be compared, and commits cannot."""
    for side, value in (("a", 1), ("b", 2)):
        folder.store({key("n"): Entry({"n": value})}, side)

    assert changed(folder, "a", "b") == {"n": (1, 2)}
    assert "'HEAD' is no file or folder here, and no commit: " in folder.fails("diff")
    assert "is in no git repository that can be read" in folder.fails("diff")


def test_without_git(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same where git is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    project.store({key("n"): Entry({"n": 1})}, "a")

    assert "git is not installed, or not on PATH" in project.fails("diff", "main")
    assert changed(project, "a", "a") == {}


def test_before_the_first_commit(folder: Project) -> None:
    """A repository without commits has no HEAD."""
    folder.git("init", "--quiet")
    folder.store({key("n"): Entry({"n": 1})})

    assert "'HEAD' is neither a file or folder here, nor a commit of" in folder.fails("diff")


def test_a_damaged_file_is_named_with_its_commit(project: Project) -> None:
    """A file that cannot be read is named with commit, folder and line."""
    project.write("perf_baselines/counters/test_pool.json", "<<<<<<< HEAD\n")
    sha = project.commit()
    project.store({key("n"): Entry({"n": 1})})

    message = project.fails("diff", "HEAD")

    assert f"HEAD@{sha}:perf_baselines/counters/test_pool.json:1: merge conflict marker" in message


@pytest.mark.parametrize("name", ["perf_baselines/counters", "perf_baselines/counters/x.json"])
def test_links_in_commits_are_not_followed(project: Project, name: str) -> None:
    """A link, of which the commit has the name and not the content, is refused."""
    path = project.path / name
    project.write("elsewhere/counters/x.json", "")
    if path.is_dir():
        shutil.rmtree(path)
    path.symlink_to(project.path / "elsewhere")
    project.commit()

    assert "is a link or a submodule or no folder" in project.fails("diff", "HEAD", "HEAD")


def test_nothing_is_changed(history: Project) -> None:
    """Neither the repository nor the folder is written to."""
    before = history.git("status", "--porcelain", "--ignored"), sorted((history.path / ".git").rglob("*"))

    history.baselines("diff", "main...")

    assert before == (
        history.git("status", "--porcelain", "--ignored"),
        sorted((history.path / ".git").rglob("*")),
    )
