"""The scripts of the composite action: installing, finding the base, running the gate, outputs."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.workflows.files import ACTION

_IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *_IDENTITY, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _run(
    script: str, folder: Path, **variables: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run a script of the action in a folder; what it did, and its outputs."""
    output = folder.parent / "outputs"
    output.write_text("")
    program = [sys.executable] if script.endswith(".py") else []
    done = subprocess.run(
        [*program, str(ACTION / script)],
        cwd=folder,
        env=os.environ | {"GITHUB_OUTPUT": str(output), "GITHUB_WORKSPACE": str(folder)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, dict(line.split("=", 1) for line in output.read_text().splitlines())


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository whose HEAD is the merge commit of a pull request."""
    folder = tmp_path / "origin"
    folder.mkdir()
    _git(folder, "init", "-q", "-b", "main")
    for message in ("first", "second"):
        _git(folder, "commit", "-q", "--allow-empty", "-m", message)
    _git(folder, "switch", "-q", "-c", "change", "HEAD^")
    _git(folder, "commit", "-q", "--allow-empty", "-m", "change")
    _git(folder, "switch", "-q", "-c", "merged", "main")
    _git(folder, "merge", "-q", "--no-ff", "-m", "merge", "change")
    _git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    return folder


@pytest.fixture
def shallow(origin: Path, tmp_path: Path) -> Path:
    """What actions/checkout makes of it: one commit, detached."""
    folder = tmp_path / "clone"
    _git(tmp_path, "clone", "-q", "--depth=1", "--branch=merged", origin.as_uri(), str(folder))
    _git(folder, "checkout", "-q", "--detach")
    return folder


@pytest.mark.parametrize("base", ["", "main", "origin/main", "SHA"])
def test_the_base_is_fetched_into_a_shallow_clone(origin: Path, shallow: Path, base: str) -> None:
    """The first parent of the merge commit, a branch or a hash; with one commit of history and no more."""
    main = _git(origin, "rev-parse", "main")
    done, outputs = _run("fetch_base.sh", shallow, GATE_BASE=base.replace("SHA", main))
    assert done.returncode == 0, done.stderr
    assert outputs == {"sha": main}
    assert _git(shallow, "rev-list", "--count", main) == "1"


def test_a_base_that_is_here_is_taken_as_it_is(origin: Path) -> None:
    """A full clone needs no network."""
    done, outputs = _run("fetch_base.sh", origin, GATE_BASE="HEAD~2", GATE_TOKEN="")
    assert done.returncode == 0
    assert outputs == {"sha": _git(origin, "rev-parse", "HEAD~2")}


_PRIVATE_GIT = """#!/bin/sh
case " $* " in *" fetch "*)
    echo "$@ / $GIT_CONFIG_KEY_0 = $GIT_CONFIG_VALUE_0" >>"$LOG"
    [ -n "$GIT_CONFIG_COUNT" ] || exit 128 ;;
esac
exec {git} "$@"
"""


def test_a_private_base_is_fetched_with_the_token(origin: Path, shallow: Path, tmp_path: Path) -> None:
    """Only where it does not go without one; it is in the environment, not among the arguments."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    (programs / "git").write_text(_PRIVATE_GIT.replace("{git}", shutil.which("git") or "git"))
    (programs / "git").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    token = "of-the-run"  # noqa: S105 - nobody's
    server = {"GITHUB_SERVER_URL": "https://github.example", "LOG": str(log), "PATH": path}
    refused, _ = _run("fetch_base.sh", shallow, **server)
    assert refused.returncode == 11
    done, outputs = _run("fetch_base.sh", shallow, **server, GATE_TOKEN=token)
    assert (done.returncode, outputs) == (0, {"sha": _git(origin, "rev-parse", "main")})
    *without, last = log.read_text().splitlines()
    basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    assert last.endswith(f" / http.https://github.example/.extraheader = AUTHORIZATION: basic {basic}")
    assert len(without) == 2
    assert all(line.endswith(" /  = ") for line in without)
    assert token not in last + done.stdout + done.stderr
    assert basic not in last.partition(" / ")[0] + done.stdout + done.stderr


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("no-such-branch", "origin does not give it out"),
        ("--upload-pack=touch", "not a commit, a branch or a tag"),
    ],
)
def test_a_base_that_is_nowhere_is_refused(shallow: Path, base: str, message: str) -> None:
    """With the exit code for nothing to compare with, and no output."""
    done, outputs = _run("fetch_base.sh", shallow, GATE_BASE=base)
    assert (done.returncode, outputs) == (11, {})
    assert message in done.stdout


def test_the_first_commit_has_no_base(tmp_path: Path) -> None:
    """And a folder without a repository has none either."""
    folder = tmp_path / "new"
    folder.mkdir()
    done, _ = _run("fetch_base.sh", folder, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert done.returncode == 11
    assert "not a git repository" in done.stdout
    _git(folder, "init", "-q")
    _git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    done, _ = _run("fetch_base.sh", folder)
    assert done.returncode == 11
    assert "HEAD is the first commit" in done.stdout


def test_installing_stops_at_the_first_error(tmp_path: Path) -> None:
    """The commands are those of the input, with the shell's strict settings; none are fine."""
    folder = tmp_path / "project"
    folder.mkdir()
    assert _run("install.sh", folder, GATE_INSTALL="")[0].returncode == 0
    done, _ = _run("install.sh", folder, GATE_INSTALL="touch one\nfalse\ntouch two")
    assert done.returncode != 0
    assert [path.name for path in folder.iterdir()] == ["one"]


_PYTEST = """
import json, os, pathlib, sys
pathlib.Path("arguments.json").write_text(json.dumps(sys.argv[1:]))
pathlib.Path("environment.json").write_text(json.dumps(dict(os.environ)))
report = next(pathlib.Path(a.split("=", 1)[1]) for a in sys.argv if a.startswith("--pagedkv-report="))
if os.environ.get("FAKE_REPORT"):
    report.mkdir(parents=True)
    (report / "comment.md").write_text("text")
    pathlib.Path(".pagedkv-perf/run.json").write_text("{}")
sys.exit(int(os.environ.get("FAKE_CODE", "0")))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose `pytest` writes down how it was called, and ends as it is told."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pytest.py").write_text(_PYTEST)
    return folder


def _gate(project: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    return _run("gate.py", project, GATE_AGAINST="abc", **variables)


def _seen(project: Path, name: str) -> str:
    return (project / f"{name}.json").read_text()


def test_the_command_is_that_of_the_inputs(project: Path) -> None:
    """Arguments are split as a shell would, and nothing in them is expanded."""
    inputs = {
        "GATE_PYTEST_ARGS": "tests/perf -k 'a or b' $(touch spoilt)",
        "GATE_BASELINES": "my baselines",
        "GATE_DEVICE": "cuda",
        "GATE_REPORT": "out",
    }
    done, outputs = _gate(project, **inputs)
    assert done.returncode == 0, done.stderr
    arguments = [
        "--pagedkv-perf",
        "--pagedkv-against=abc",
        "--pagedkv-baselines=my baselines",
        "--pagedkv-device=cuda",
        f"--pagedkv-report={project / 'out'}",
        "tests/perf",
        *("-k", "a or b", "$(touch", "spoilt)"),
    ]
    assert _seen(project, "arguments") == str(arguments).replace("'", '"')
    assert not (project / "spoilt").exists()
    assert outputs["report"] == str(project / "out")


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0, "pass"),
        (1, "failed"),
        (2, "failed"),
        (5, "no-tests"),
        (10, "regression"),
        (11, "no-baseline"),
        (12, "nondeterministic"),
    ],
)
def test_each_exit_code_has_a_verdict(project: Path, code: int, verdict: str) -> None:
    """The step ends as pytest did, and its outputs say the same in words."""
    done, outputs = _gate(project, FAKE_CODE=str(code))
    assert done.returncode == code
    assert (outputs["verdict"], outputs["exit-code"]) == (verdict, str(code))
    assert ("::error title=pagedkv::" in done.stdout) == (code != 0)


@pytest.mark.parametrize(("code", "step"), [(10, 0), (1, 1), (11, 11), (12, 12)])
def test_only_a_regression_is_forgiven(project: Path, code: int, step: int) -> None:
    """`fail-on-regression: false` is no licence for anything else; the outputs stay."""
    done, outputs = _gate(project, FAKE_CODE=str(code), GATE_FAIL_ON_REGRESSION="false")
    assert done.returncode == step
    assert outputs["exit-code"] == str(code)


def test_the_environment_is_handed_on(project: Path) -> None:
    """With what the input adds, and without the action's own variables."""
    done, _ = _gate(project, GATE_ENV="OMP_NUM_THREADS=1\n\n  A=b=c\n", GATE_BASELINES="")
    assert done.returncode == 0
    seen = _seen(project, "environment")
    assert '"OMP_NUM_THREADS": "1"' in seen
    assert '"A": "b=c"' in seen
    assert "GATE_" not in seen


@pytest.mark.parametrize(
    "inputs",
    [
        {"GATE_ENV": "no value"},
        {"GATE_ENV": "A-B=1"},
        {"GATE_PYTEST_ARGS": "-k 'open"},
        {"GATE_REPORT": "a\nb=c"},
    ],
)
def test_inputs_that_cannot_be_used_are_refused(project: Path, inputs: Mapping[str, str]) -> None:
    """With a line that names the input or the output."""
    done, outputs = _gate(project, **inputs)
    assert (done.returncode, outputs) == (2, {})
    assert "::error title=pagedkv::the " in done.stdout


def test_the_run_and_the_comment_are_found(project: Path) -> None:
    """The comment is put beside the number of the pull request, for the workflow that posts it."""
    _, outputs = _gate(project, FAKE_REPORT="1", FAKE_CODE="10", GATE_PULL_REQUEST="7")
    assert outputs["run"] == str(project / ".pagedkv-perf")
    folder = Path(outputs["comment"])
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"comment.md": "text", "pr": "7\n"}


def test_without_a_pull_request_there_is_no_comment(project: Path) -> None:
    """Nor from a run that wrote none, though an older one did."""
    _, outputs = _gate(project, FAKE_REPORT="1", GATE_PULL_REQUEST="")
    assert outputs["comment"] == ""
    for path in (project / ".pagedkv-perf").rglob("*.*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    _, outputs = _gate(project, GATE_PULL_REQUEST="7")
    assert (outputs["comment"], outputs["run"]) == ("", "")
