"""A project with baselines in a git repository of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_pagedkv.baselines.fingerprint import Fingerprint
from pytest_pagedkv.baselines.schema import Entry, render
from pytest_pagedkv.baselines.slower import Slowdown, render_slowdowns
from pytest_pagedkv.baselines.timing_schema import TimingEntry, render_environment, render_timings
from tests.cli.conftest import Outcome, run_captured

TEST_FILE = "tests/perf/test_pool.py"
PASSED = {"setup": "passed", "call": "passed", "teardown": "passed"}
FINISHED = "2100-01-01T00:00:00+00:00"


def key(name: str, file: str = TEST_FILE) -> str:
    """The key of a benchmark."""
    return f"{file}::test_{name}"


class Project:
    """The folder in which the commands run."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.capsys = capsys

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def read(self, name: str) -> str:
        """Read a file."""
        return (self.path / name).read_text()

    def store(self, entries: dict[str, Entry], folder: str = "perf_baselines") -> None:
        """Replace the baselines of each test file that the keys name, and write that test file."""
        for stem in {Path(name.partition("::")[0]).stem for name in entries}:
            own = {name: each for name, each in entries.items() if f"/{stem}.py::" in name}
            self.write(f"{folder}/counters/{stem}.json", render(own))
        for file in {name.partition("::")[0] for name in entries}:
            self.write(file, "")

    def store_times(
        self,
        histories: dict[str, tuple[float, ...]],
        slug: str,
        folder: str = "perf_baselines",
        source: str = "abc",
        **compared: str,
    ) -> None:
        """Replace the timings of the test files that the keys name, in an environment of this name."""
        path = f"{folder}/timing/{slug}"
        for stem in {Path(name.partition("::")[0]).stem for name in histories}:
            entries = {
                name: TimingEntry(metric="cpu", history=history, spread=0.01, source=source)
                for name, history in histories.items()
                if f"/{stem}.py::" in name
            }
            self.write(f"{path}/{stem}.json", render_timings(entries))
        self.write(f"{path}/env.json", render_environment(Fingerprint({"cpu_model": "1"} | compared, {})))

    def accept_slower(self, entries: dict[str, Slowdown]) -> None:
        """Replace the accepted slowdowns of the test file that the keys name."""
        stem = Path(next(iter(entries)).partition("::")[0]).stem
        self.write(f"perf_baselines/slower/{stem}.json", render_slowdowns(entries))

    def stored(self, stem: str = "test_pool") -> dict[str, Any]:
        """The entries of a baseline file."""
        found: dict[str, Any] = json.loads(self.read(f"perf_baselines/counters/{stem}.json"))["benchmarks"]
        return found

    def ran(self, benchmarks: dict[str, dict[str, Any]], stale: tuple[str, ...] = (), **top: object) -> None:
        """Write the file of a run with these benchmarks; what is not said is as if they passed."""
        usual = {"verdict": "changed", "outcomes": PASSED, "details": []}
        found = {name: {"nodeid": name, **usual, **about} for name, about in benchmarks.items()}
        data = {"schema": "pagedkv-run/1", "finished": FINISHED, "benchmarks": found, "stale": list(stale)}
        self.write(".pagedkv-perf/run.json", json.dumps(data | top))

    def git(self, *arguments: str) -> str:
        """Run git here."""
        done = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str = "a change") -> str:
        """Commit everything; returns the short name."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "--short=7", "HEAD")

    def baselines(self, *arguments: object) -> Outcome:
        """Run `pagedkv baselines`."""
        return run_captured(self.capsys, "baselines", *arguments)

    def json(self, *arguments: object) -> dict[str, Any]:
        """Run it with --json, and return what it printed."""
        found = self.baselines(*arguments, "--json")
        assert found.stderr == ""
        answer: dict[str, Any] = json.loads(found.stdout)
        return answer

    def fails(self, *arguments: object) -> str:
        """Run it; it has to fail with exit code 2 and one line, which is returned."""
        found = self.baselines(*arguments)
        assert (found.code, found.stdout) == (2, "")
        assert found.stderr.startswith("pagedkv: ")
        assert found.stderr.count("\n") == 1
        return found.stderr


def changed(project: Project, *arguments: object) -> dict[str, tuple[int | None, int | None]]:
    """The first counter that differs in each benchmark, before and after; None where there is no entry."""
    found = project.json("diff", *arguments)["changes"]
    return {
        change["benchmark"].rpartition("test_")[2]: tuple(
            side and next(iter(side["counters"].values())) for side in (change["before"], change["after"])
        )
        for change in found
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    """An empty project that is in no repository."""
    for variable in ("COLUMNS", "FORCE_COLOR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(variable, "/dev/null")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.org")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    return Project(path, capsys)


@pytest.fixture
def project(folder: Project) -> Project:
    """A project with three benchmarks in the first commit of its repository."""
    folder.git("init", "--quiet", "--initial-branch=main")
    folder.store(
        {
            key("admit"): Entry({"blocks_allocated": 640, "steps": 7}),
            key("fork"): Entry({"cow_copies": 3, "cache_hits": 10}, "beams share less"),
            key("free"): Entry({"n": 1}),
        }
    )
    folder.commit("the first")
    return folder
