"""`pagedkv baselines prune`: what is dropped, and what stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.slower import Slowdown
from tests.baselines.conftest import FINISHED, Project, key

GONE = key("old", "tests/test_gone.py")
SHIPPED = "pytest_pagedkv/suite/test_churn.py::test_churn[16]"


@pytest.fixture
def crowded(project: Project) -> Project:
    """The project, with baselines of a test file that is gone and of a shipped test."""
    project.store({GONE: Entry({"n": 1}), SHIPPED: Entry({"n": 2})})
    project.accept_slower({GONE: Slowdown(0.1, "why")})
    project.store_times({GONE: (9.4,), key("fork"): (9.4,)}, "cpu-a")
    project.store_times({GONE: (9.4,)}, "cpu-b")
    for name in (GONE, SHIPPED):
        (project.path / name.partition("::")[0]).unlink()
    return project


def files(project: Project) -> set[str]:
    """All files of baselines."""
    folder = project.path / "perf_baselines"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_test_file_that_is_gone(crowded: Project) -> None:
    """Its lines of all kinds are dropped; files without lines go, and so do environments."""
    found = crowded.baselines("prune")

    assert (found.code, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        f"dropped  {GONE}",
        "  tests/test_gone.py is gone",
        "1 benchmark and 0 temporary files dropped",
    ]
    assert files(crowded) == {
        "counters/test_pool.json",
        "counters/test_churn.json",
        "timing/cpu-a/test_pool.json",
        "timing/cpu-a/env.json",
    }
    assert crowded.baselines("prune").stdout == "0 benchmarks and 0 temporary files dropped\n"


def test_a_dry_run_changes_nothing(crowded: Project) -> None:
    """It says the same, and what is on disk stays."""
    (crowded.path / f"perf_baselines/counters/.test_pool.json.{dead_process()}.tmp").write_text("{")
    before = files(crowded)

    shown = crowded.baselines("prune", "--dry-run").stdout
    told = crowded.json("prune", "-n")

    assert f"drop     {GONE}" in shown
    assert shown.endswith("1 benchmark and 1 temporary file would be dropped; nothing was changed\n")
    assert (told["dry_run"], set(told["dropped"]), len(told["temporary_files"])) == (True, {GONE}, 1)
    assert files(crowded) == before


def test_what_a_run_found_stale(project: Project) -> None:
    """A test that is gone from its file is dropped on the word of a run, and only if it has a baseline."""
    project.ran({}, stale=(key("free"), key("never")))

    found = project.json("prune")

    assert found["dropped"] == {
        key("free"): f"its test is gone, as .pagedkv-perf/run.json of {FINISHED} found"
    }
    assert set(project.stored()) == {key("admit"), key("fork")}


@pytest.mark.parametrize("finished", ["2000-01-01T00:00:00+00:00", "yesterday"])
def test_a_run_that_may_be_out_of_date(project: Project, finished: str) -> None:
    """A test file that changed after the run may have the test again: its baseline stays, and why is said."""
    project.ran({}, stale=(key("free"),), finished=finished)

    found = project.baselines("prune")

    assert f"kept     {key('free')}\n  its test file changed after .pagedkv-perf/run.json" in found.stdout
    assert key("free") in project.stored()


def test_another_run_file(project: Project) -> None:
    """A run file that is named has to be there; without one, only what is certain is dropped."""
    project.ran({}, stale=(key("free"),))
    (project.path / ".pagedkv-perf/run.json").rename(project.path / "ci.json")

    assert project.json("prune")["dropped"] == {}
    assert "missing.json: cannot be read" in project.fails("prune", "missing.json")
    assert set(project.json("prune", "ci.json")["dropped"]) == {key("free")}


def test_a_wrong_root_drops_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no test file is found at all, the root is wrong, and not every test gone."""
    elsewhere = project.path / "ci"
    elsewhere.mkdir()
    (project.path / "perf_baselines").rename(elsewhere / "perf_baselines")
    monkeypatch.chdir(elsewhere)

    message = project.fails("prune")

    assert f"no test file of the stored benchmarks exists under {elsewhere}" in message
    assert "name pytest's root directory with --root" in message
    assert project.json("prune", "--root", "..")["dropped"] == {}


def test_names_that_are_no_text(project: Project) -> None:
    """A file name with bytes that are no text is spelled out in the key, and found."""
    odd = Path(os.fsdecode(bytes(project.path / "tests") + b"/test_\xff.py"))
    odd.write_text("")
    project.store({key("x", "tests/test_\\udcff.py"): Entry({"n": 1})})
    (project.path / "tests/test_\\udcff.py").unlink()

    assert project.json("prune")["dropped"] == {}
    odd.unlink()
    assert set(project.json("prune")["dropped"]) == {key("x", "tests/test_\\udcff.py")}


def test_what_killed_writers_left(project: Project) -> None:
    """Temporary files of processes that are no more are removed, others and those of the living are not."""
    folder = project.path / "perf_baselines/counters"
    dead, alive = (folder / f".test_pool.json.{pid}.tmp" for pid in (dead_process(), os.getpid()))
    others = [folder / name for name in (".other.tmp", "notes.txt", ".test_pool.json.9x.tmp")]
    for path in (dead, alive, *others):
        path.write_text("{")

    found = project.json("prune")

    assert found["temporary_files"] == [dead.relative_to(project.path).as_posix()]
    assert list(found["kept"]) == [alive.relative_to(project.path).as_posix()]
    assert not dead.exists()
    assert all(path.exists() for path in (alive, *others))


def test_a_read_only_file_stops_everything_before_it_begins(crowded: Project) -> None:
    """If one file cannot be written, none is."""
    path = crowded.path / "perf_baselines/timing/cpu-b/test_gone.json"
    path.chmod(0o444)
    before = files(crowded)

    assert "timing/cpu-b/test_gone.json: cannot be written (it is read-only)" in crowded.fails("prune")
    assert files(crowded) == before


def dead_process() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid
