"""The scripts of nightly.yml and release.yml: the history on its branch, the notes of a release."""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workflows.files import ROOT

_NOTES = runpy.run_path(str(ROOT / ".ci/release_notes.py"))
_CHANGELOG = """# Changelog

## Unreleased

- soon

## [1.2.0] - 2026-01-01

### Added

- this

## 1.1.0

- that

## 1.0.0
"""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with the script in it, and an origin that it can push to."""
    _git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin")
    folder = tmp_path / "clone"
    _git(tmp_path, "clone", "-q", str(tmp_path / "origin"), str(folder))
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/timing_history", folder / ".ci")
    _git(folder, "add", ".ci")
    _git(folder, "commit", "-q", "-m", "first")
    _git(folder, "push", "-q", "origin", "HEAD:main")
    return folder


def _history(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GH_TOKEN", "GITHUB_SHA")
    }
    command = [str(clone / ".ci/timing_history"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_history_grows_on_its_branch(clone: Path, tmp_path: Path) -> None:
    """Nothing at first; then what was committed comes back; main and the index stay as they were."""
    taken = clone / "perf_baselines/timing"
    assert "no branch" in _history(clone, "take").stdout
    measured = tmp_path / "measured"
    (measured / "cpu-a").mkdir(parents=True)
    (measured / "cpu-a/test_x.json").write_text("1")
    assert _history(clone, "commit", str(measured)).returncode == 0
    assert "nothing new" in _history(clone, "commit", str(measured)).stdout
    (measured / "cpu-a/test_x.json").write_text("2")
    assert _history(clone, "commit", str(measured)).returncode == 0
    assert _history(clone, "take").returncode == 0
    assert (taken / "cpu-a/test_x.json").read_text() == "2"
    assert _git(clone, "rev-list", "--count", "origin/perf-history") == "2"
    assert _git(clone, "status", "--porcelain") == "?? perf_baselines/"


def test_only_baselines_become_history(clone: Path, tmp_path: Path) -> None:
    """The job may write to the repository, and what it is handed was made by code under test."""
    measured = tmp_path / "measured"
    measured.mkdir()
    (measured / "run.sh").write_text("")
    done = _history(clone, "commit", str(measured))
    assert done.returncode == 2
    assert "other files than baselines" in done.stderr
    assert _git(clone, "ls-remote", "origin", "perf-history") == ""


def test_an_origin_out_of_reach_is_an_error(clone: Path) -> None:
    """It is not taken for one without the branch."""
    _git(clone, "remote", "set-url", "origin", str(clone / "nowhere"))
    assert _history(clone, "take").returncode not in (0, 2)


@pytest.mark.parametrize(("version", "notes"), [("1.2.0", "### Added\n\n- this\n"), ("1.1.0", "- that\n")])
def test_a_release_has_its_section(version: str, notes: str) -> None:
    """Headings with brackets and a date, or bare."""
    assert _NOTES["section"](version, _CHANGELOG) == notes


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0", "1.2", "1.1.0.0"])
def test_a_release_without_notes_is_refused(version: str) -> None:
    """An empty section, none, and one that is only nearly the version's."""
    with pytest.raises(ValueError, match=r"CHANGELOG\.md says nothing under a heading"):
        _NOTES["section"](version, _CHANGELOG)


def test_the_tag_must_be_what_was_built(tmp_path: Path) -> None:
    """One wheel and one source distribution of that version, and nothing besides."""
    for name in ("pagedkv-1.2.0-py3-none-any.whl", "pagedkv-1.2.0.tar.gz"):
        (tmp_path / name).touch()
    _NOTES["check"]("1.2.0", tmp_path)
    with pytest.raises(ValueError, match=r"expected pagedkv-1\.3\.0-py3-none-any\.whl"):
        _NOTES["check"]("1.3.0", tmp_path)
