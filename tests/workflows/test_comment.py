"""The script of perf-comment.yml with a stand-in for GitHub's API: what it posts, and what it refuses."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_pagedkv.report.markdown import comment
from tests.report.runs import large_run
from tests.workflows.files import workflow

_SHA = "0123456789abcdef0123456789abcdef01234567"
_MARK = "<!-- pagedkv-perf -->"
_FAKE_GH = """#!{python}
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
arguments = sys.argv[2:]
sent = json.load(sys.stdin) if "--input" in arguments else None
with (folder / "calls").open("a") as log:
    log.write(json.dumps([arguments, sent]) + "\\n")
name = arguments[0].partition("?")[0].removeprefix("repos/o/r/").replace("/", "_")
answer = folder / name
sys.stdout.buffer.write(answer.read_bytes() if sent is None else b"{{}}")
"""


class Api:
    """A folder with a `gh` that answers from files and keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        gh = folder / "gh"
        gh.write_text(_FAKE_GH.format(python=sys.executable))
        gh.chmod(0o755)
        self.answers("issues_7_comments", "")
        self.pulls(7)
        self.artifact({"comment.md": b"### pagedkv perf: fine\n", "pr": b"7\n"})

    def answers(self, name: str, content: str | bytes) -> None:
        """Set the answer to the path of that name."""
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def pulls(self, *numbers: int, sha: str = _SHA) -> None:
        """The open pull requests of the branch."""
        self.answers("pulls", json.dumps([{"number": number, "head": {"sha": sha}} for number in numbers]))

    def artifact(self, files: Mapping[str, bytes], **fields: Any) -> None:
        """What the run left."""
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        self.answers("actions_artifacts_5_zip", data.getvalue())
        size = len(data.getvalue())
        one = {"id": 5, "expired": False, "size_in_bytes": size, "created_at": "2026-01-02T00:00:00Z"}
        self.answers("actions_runs_99_artifacts", json.dumps({"artifacts": [one | fields]}))

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run the step of the workflow."""
        (step,) = workflow("perf-comment")["jobs"]["comment"]["steps"]
        script = self.folder / "step.py"
        script.write_text(step["run"])
        values = {
            "GH_TOKEN": "token",
            "REPOSITORY": "o/r",
            "SERVER": "https://github.example",
            "RUN_ID": "99",
            "HEAD_SHA": _SHA,
            "HEAD_OWNER": "somebody",
            "HEAD_BRANCH": "a-branch&state=closed",
        }
        assert set(values) == set(step["env"])
        environment = os.environ | values | {"PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"}
        command = [sys.executable, str(script)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> list[tuple[list[str], Any]]:
        """Arguments and sent data of every call."""
        log = self.folder / "calls"
        return [tuple(json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []

    def posted(self) -> list[tuple[str, str, str]]:
        """Path, method and body of every call that wrote."""
        return [(call[0], call[2], sent["body"]) for call, sent in self.calls() if sent is not None]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """An API with one open pull request, its measured commit, and a proper artifact."""
    return Api(tmp_path)


def test_a_first_comment_is_made(api: Api) -> None:
    """With the mark by which it is found again, and where it comes from."""
    done = api.run()
    assert done.returncode == 0, done.stderr
    ((path, method, body),) = api.posted()
    assert (path, method) == ("repos/o/r/issues/7/comments", "POST")
    assert body.startswith(f"{_MARK}\n<sub>Written by [a run](https://github.example/o/r/actions/runs/99)")
    assert "### pagedkv perf: fine" in body
    assert _SHA[:10] in body


def test_a_later_one_is_edited(api: Api) -> None:
    """There is one comment, however often the pull request is pushed to."""
    api.answers("issues_7_comments", "41\n42\n")
    assert api.run().returncode == 0
    ((path, method, _),) = api.posted()
    assert (path, method) == ("repos/o/r/issues/comments/41", "PATCH")


def test_only_our_own_comments_are_edited(api: Api) -> None:
    """Somebody else may write the mark too."""
    api.run()
    listing = next(call for call, _ in api.calls() if "--jq" in call)
    assert 'select(.user.login == "github-actions[bot]" and (.body | startswith("' in listing[-1]


def test_the_branch_cannot_change_the_question(api: Api) -> None:
    """Its name goes as one parameter, whatever is in it."""
    api.run()
    question = next(call for call, _ in api.calls() if call[0] == "repos/o/r/pulls")
    assert question[1:] == [
        "--method",
        "GET",
        "-f",
        "head=somebody:a-branch&state=closed",
        "-f",
        "state=open",
    ]


def test_an_old_result_is_not_posted(api: Api) -> None:
    """A newer commit has been pushed, and its run will speak."""
    api.pulls(7, sha="f" * 40)
    done = api.run()
    assert (done.returncode, api.posted()) == (0, [])
    assert "nothing to post" in done.stdout


def test_no_artifact_no_comment(api: Api) -> None:
    """A run that never measured has nothing to say."""
    api.answers("actions_runs_99_artifacts", '{"artifacts": []}')
    assert (api.run().returncode, api.posted()) == (0, [])


def test_the_artifact_cannot_choose_the_pull_request(api: Api) -> None:
    """Its number counts only among those that have the branch and the commit."""
    api.artifact({"comment.md": b"text", "pr": b"1\n"})
    api.run()
    assert [path for path, _, _ in api.posted()] == ["repos/o/r/issues/7/comments"]


def test_the_artifact_tells_two_pull_requests_of_a_branch_apart(api: Api) -> None:
    """One branch may be offered to two others."""
    api.pulls(6, 7)
    api.run()
    assert [path for path, _, _ in api.posted()] == ["repos/o/r/issues/7/comments"]
    api.artifact({"comment.md": b"text", "pr": b"8\n"})
    api.run()
    assert len(api.posted()) == 1


@pytest.mark.parametrize(
    "files",
    [
        {"comment.md": b"text"},
        {"comment.md": b"text", "pr": b"7", "more": b""},
        {"../comment.md": b"text", "pr": b"7"},
        {"comment.md": b"x" * 500_000, "pr": b"7"},
        {"comment.md": b"text", "pr": b"7" * 100},
    ],
    ids=["lacking", "more", "outside", "bomb", "long-number"],
)
def test_other_artifacts_are_refused(api: Api, files: Mapping[str, bytes]) -> None:
    """Exactly two files of bounded size, whatever the zip file is made of."""
    api.artifact(files)
    assert (api.run().returncode, api.posted()) == (1, [])


@pytest.mark.parametrize("fields", [{"size_in_bytes": 10_000_000}, {"expired": True}])
def test_large_and_old_artifacts_are_not_fetched(api: Api, fields: Mapping[str, Any]) -> None:
    """The size is looked at before anything is downloaded."""
    api.artifact({"comment.md": b"text", "pr": b"7\n"}, **fields)
    assert api.run().returncode == 1
    assert not any("zip" in call[0] for call, _ in api.calls())


def test_what_could_do_harm_is_taken_out(api: Api) -> None:
    """Images, mentions, foreign HTML, control characters, a second mark; layout and code stay."""
    text = (
        f"{_MARK}@all ![x](http://t.example/p.png) <img src=x> <!-- hidden <details><summary>more</summary>"
        "<br></details> main@abc `a[<b>]` \x1b[31m\u202eend"
    )
    api.artifact({"comment.md": text.encode(), "pr": b"7\n"})
    api.run()
    body = api.posted()[0][2].split("</sub>\n\n")[1]
    gap = "\u200b"
    assert body == (
        f"@{gap}all [x](http://t.example/p.png) <{gap}img src=x> <{gap}!-- hidden "
        f"<details><summary>more</summary><br></details> main@abc `a[<b>]` [31mend\n"
    )


@pytest.mark.parametrize("number", [3, 400])
def test_our_own_comments_arrive_whole(api: Api, number: int) -> None:
    """What the plugin writes has nothing in it that is taken out, and room for the line above it."""
    text = comment(large_run(number))
    api.artifact({"comment.md": text.encode(), "pr": b"7\n"})
    assert api.run().returncode == 0
    body = api.posted()[0][2]
    assert body.split("</sub>\n\n")[1] == text.removeprefix(_MARK) + "\n"
    assert len(body) < 65_536


def test_long_comments_are_cut(api: Api) -> None:
    """GitHub takes 65,536 characters."""
    api.artifact({"comment.md": b"@a " * 40_000, "pr": b"7\n"})
    assert api.run().returncode == 0
    assert len(api.posted()[0][2]) < 65_536
