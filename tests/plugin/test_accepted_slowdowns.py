"""`--pagedkv-accept` and `--pagedkv-against` together: an intended slowdown passes until it is merged."""

from pathlib import Path

import pytest

from pytest_pagedkv.baselines.schema import Entry, render
from pytest_pagedkv.baselines.slower import Slowdown, render_slowdowns
from pytest_pagedkv.perf.accepting import lines_of_base
from pytest_pagedkv.perf.duet.checkout import Checkout
from tests.plugin.conftest import Project
from tests.plugin.duets import BENCHMARK, DuetProject, git

AGAINST = "--pagedkv-against=main"
KEY = "test_engine.py::test_work"
FILE = "perf_baselines/slower/test_engine.json"
ACCEPT = (f"--pagedkv-accept={KEY}", "--pagedkv-reason=checks tokens")
LINE = {"slower": 0.12, "reason": "checks tokens"}


@pytest.fixture
def duet(project: Project, monkeypatch: pytest.MonkeyPatch) -> DuetProject:
    """A repository on a branch, whose head is its base; as few pairs confirm as can."""
    monkeypatch.setattr("pytest_pagedkv.perf.duet.run.CONFIRM_PAIRS", 3)
    found = DuetProject(project)
    git(found.path, "switch", "-q", "-c", "feature")
    return found


@pytest.mark.heavy
def test_an_intended_slowdown_passes_until_it_is_merged(duet: DuetProject) -> None:
    """The failure names the command; its line excuses the branch, a little more too, and nothing on main."""
    duet.cost(1_120_000)
    failed = duet.project.perf(AGAINST)
    accepted = duet.project.perf(AGAINST, *ACCEPT)
    duet.commit()
    again = duet.project.perf(AGAINST, "-p", "xdist", "-n", "1")

    assert (failed.ret, accepted.ret, again.ret) == (10, 0, 0)
    failed.stdout.fnmatch_lines(
        [f"*accept it, if it is right, with: pytest --pagedkv-perf {AGAINST} --pagedkv-accept={KEY} *"]
    )
    note = f" note  {KEY}   slower, as accepted (checks tokens): cpu 1.00ms -> 1.12ms  +12.0% *"
    accepted.stdout.fnmatch_lines([note, f" note  stored in {FILE}", " time: 1 slower *"])
    again.stdout.fnmatch_lines([note])
    assert duet.project.benchmarks(FILE) == {KEY: LINE}
    told = duet.project.benchmarks(".pagedkv-perf/run.json")[KEY]
    assert (told["verdict"], told["failed_gate"], told["duet"]["accepted"]) == ("worse", False, LINE)  # type: ignore[index]
    assert "+12.0% accepted: checks tokens" in duet.project.read(".pagedkv-perf/report/index.html")

    git(duet.path, "branch", "-f", "main", "feature")
    duet.cost(1_120_000 * 112 // 100)
    merged = duet.project.perf(AGAINST)
    twice = duet.project.perf(AGAINST, *ACCEPT)

    assert (merged.ret, twice.ret) == (10, 0)
    twice.stdout.fnmatch_lines([f" note  {KEY}   the base has this very line, *"])


@pytest.mark.heavy
def test_more_than_was_accepted_fails(duet: DuetProject) -> None:
    """What is accepted and the threshold are the limit, and the message says what was accepted."""
    duet.project.write(FILE, render_slowdowns({KEY: Slowdown(0.05, "checks tokens")}))
    duet.cost(1_130_000)

    result = duet.project.perf(AGAINST)

    assert result.ret == 10
    result.stdout.fnmatch_lines(["*(T 7%), +5.0% is accepted (checks tokens), and this is beyond"])
    assert duet.project.benchmarks(FILE) == {KEY: {"slower": 0.05, "reason": "checks tokens"}}


def test_counters_and_time_are_accepted_at_once(duet: DuetProject) -> None:
    """Both lines get the reason; a benchmark of which nothing moved is told, and gets none."""
    other = BENCHMARK.replace("test_work", "test_idle").replace("engine.work", "engine.idle")
    counting = "    pagedkv_benchmark.record(cow_copies=2)\n"
    idle = "\ndef idle():\n    global NOW\n    NOW += 1_000_000\n"
    duet.project.write("test_engine.py", BENCHMARK + counting + other[other.index("def ") :])
    duet.project.write("engine.py", duet.project.read("engine.py") + idle)
    duet.commit()
    git(duet.path, "branch", "-f", "main", "feature")
    duet.cost(1_500_000)
    duet.project.write("engine.py", duet.project.read("engine.py") + idle)
    counters = "perf_baselines/counters/test_engine.json"
    duet.project.write(counters, render({KEY: Entry({"cow_copies": 1})}))

    result = duet.project.perf(AGAINST, *ACCEPT, "--pagedkv-accept=test_engine.py::test_idle")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            " note  test_engine.py::test_idle   nothing to accept: *, and it is not slower than the base",
            f" note  stored in {counters}",
            f" note  stored in {FILE}",
        ]
    )
    assert duet.project.benchmarks(counters) == {
        KEY: {"counters": {"cow_copies": 2}, "reason": "checks tokens"}
    }
    assert duet.project.benchmarks(FILE) == {KEY: {"slower": 0.5, "reason": "checks tokens"}}


@pytest.mark.heavy
def test_an_update_accepts_no_slowdown(duet: DuetProject) -> None:
    """It drops the line of a test that is gone, and the slowdown still fails."""
    gone = "test_engine.py::test_gone"
    duet.project.write(FILE, render_slowdowns({gone: Slowdown(0.1, "why")}))
    duet.cost(1_500_000)

    result = duet.project.perf(AGAINST, "--pagedkv-update")

    assert result.ret == 10
    result.stdout.fnmatch_lines([f" note  {gone}   dropped, its test is gone"])
    assert not (duet.path / FILE).exists()


@pytest.mark.heavy
def test_a_folder_outside_of_the_tree(duet: DuetProject) -> None:
    """The base has no such folder, so that its lines excuse nothing; a note says so."""
    folder = duet.path.parent / f"{duet.path.name}-baselines"
    (folder / "slower").mkdir(parents=True)
    (folder / "slower" / "test_engine.json").write_text(render_slowdowns({KEY: Slowdown(0.5, "why")}))
    duet.cost(1_500_000)

    result = duet.project.perf(AGAINST, f"--pagedkv-baselines={folder}")

    assert result.ret == 10
    result.stdout.fnmatch_lines([" note  *-baselines is outside of the tree that is compared: *"])


def test_lines_of_the_base_that_cannot_be_read(tmp_path: Path) -> None:
    """Nobody knows then what is new, and the problem names the base's file."""
    file = tmp_path / "base" / FILE
    file.parent.mkdir(parents=True)
    file.write_text("<<<<<<< HEAD\n")
    head, base = (Checkout(top=tmp_path / name, shown=name) for name in ("head", "base"))

    found = lines_of_base(tmp_path / "head" / "perf_baselines", head, base)

    assert found.slowdowns is None
    assert "base:perf_baselines/slower/test_engine.json:1: merge conflict marker" in found.problem


@pytest.mark.heavy
def test_a_baseline_that_is_required_has_to_be_stored(duet: DuetProject) -> None:
    """The base's counters do not stand in for it."""
    duet.project.write("test_engine.py", BENCHMARK + "    pagedkv_benchmark.record(cow_copies=1)\n")
    duet.commit()
    git(duet.path, "branch", "-f", "main", "feature")

    assert duet.project.perf(AGAINST).ret == 0
    assert duet.project.perf(AGAINST, "--pagedkv-require-baseline").ret == 11
    assert duet.project.perf(AGAINST, "--pagedkv-require-baseline", *ACCEPT).ret == 0
    assert KEY in duet.project.benchmarks("perf_baselines/counters/test_engine.json")
