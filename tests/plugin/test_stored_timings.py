"""Stored times in whole runs, on a virtual clock: verdicts, exit codes, updates."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_pagedkv.baselines import Judgement, Verdict
from pytest_pagedkv.baselines.fingerprint import fingerprint
from pytest_pagedkv.baselines.schema import Entry, render
from pytest_pagedkv.baselines.timing import StoredResult
from pytest_pagedkv.baselines.timing_schema import (
    TimingEntry,
    parse_timings,
    render_environment,
    render_timings,
)
from pytest_pagedkv.baselines.timing_store import Timings
from pytest_pagedkv.baselines.versioned import versioned
from pytest_pagedkv.perf import meter, metering, stored
from pytest_pagedkv.perf.source_hash import source_hash
from tests.plugin.conftest import Project

SLUG = fingerprint().slug
FILE = f"perf_baselines/timing/{SLUG}/test_timed.json"
ENVIRONMENT = f"perf_baselines/timing/{SLUG}/env.json"
STEADY = (9.9, 9.95, 10.0, 10.05, 10.1)
CLOCK = """
import time
from pytest_pagedkv.perf import meter, metering
from pytest_pagedkv.perf.meters import Call

now_ns = 0
time.thread_time_ns = lambda: now_ns

def spend(units):
    global now_ns
    now_ns += int(units * 1_000_000)

meter.REFERENCE = Call(fn=lambda: spend(1))
metering._PAUSE_S = 0
"""
"""A clock that moves when it is told to: a unit of the reference workload is a virtual millisecond."""
TIMED = """
import json, pathlib, pytest
from conftest import spend

TIMES = json.loads(pathlib.Path(__file__).with_name("times.json").read_text())

@pytest.mark.pagedkv_perf
@pytest.mark.parametrize("name", TIMES)
def test_timed(name, pagedkv_benchmark):
    pagedkv_benchmark(lambda: spend(TIMES[name]))
    pagedkv_benchmark.record(n=1)
"""


def key(name: str) -> str:
    """A benchmark of the project."""
    return f"test_timed.py::test_timed[{name}]"


def times(project: Project, **units: float) -> None:
    """Let the benchmarks take this long, in units."""
    project.write("times.json", json.dumps(units))


def history(project: Project, name: str) -> tuple[float, ...]:
    """What is stored of a benchmark."""
    stored = parse_timings((project.path / FILE).read_bytes(), "f")
    return stored[key(name)].history if key(name) in stored else ()


def write_history(project: Project, **centres: tuple[float, ...]) -> None:
    """Store these runs of the benchmarks, as updates in this environment would."""
    source = source_hash(TIMED, "test_timed")
    entries = {
        key(name): TimingEntry(metric="cpu", history=runs, spread=0.0, source=source)
        for name, runs in centres.items()
    }
    project.write(FILE, render_timings(entries))
    project.write(ENVIRONMENT, render_environment(fingerprint()))


@pytest.fixture
def timed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a virtual clock and two benchmarks, whose counters are stored."""
    monkeypatch.setattr(meter, "REFERENCE", meter.REFERENCE)  # put back: the clock replaces these
    for name in ("_PAUSE_S", "sleep"):
        monkeypatch.setattr(metering, name, getattr(metering, name))
    project.write("conftest.py", CLOCK)
    project.write("test_timed.py", TIMED)
    times(project, a=10, b=20)
    counters = render({key(name): Entry({"n": 1}) for name in "ab"})
    project.write("perf_baselines/counters/test_timed.json", counters)
    return project


@pytest.fixture
def gated(timed: Project) -> Project:
    """The same with a history of five runs."""
    write_history(timed, a=STEADY, b=(20.0,) * 5)
    return timed


def test_a_run_is_stored_as_multiples_of_the_reference(timed: Project) -> None:
    """Four digits, one line a benchmark, the environment once, and no file but these two."""
    times(timed, a=1.23456, b=20)

    result = timed.perf("--pagedkv-update=timing")

    assert result.ret == 0
    result.stdout.fnmatch_lines([f" note  stored in {FILE}"])
    lines = timed.read(FILE).splitlines()
    assert lines[0] == '{"schema":"pagedkv-perf/1","kind":"timing","benchmarks":{'
    assert re.fullmatch(
        rf'"{re.escape(key("a"))}": '
        r'\{"metric": "cpu", "history": \[1\.235\], "spread": 0\.0, "source": "[0-9a-f]{12}"\},',
        lines[1],
    )
    assert len(lines) == 4
    environment = json.loads(timed.read(ENVIRONMENT))
    assert (environment["kind"], environment["compared"]) == ("environment", dict(fingerprint().compared))
    assert sorted(path.name for path in (timed.path / FILE).parent.iterdir()) == [
        "env.json",
        "test_timed.json",
    ]


def test_a_regression_is_a_failed_test(gated: Project) -> None:
    """Beyond the tolerance, with five runs stored: exit 10, the numbers, and all of it in run.json."""
    times(gated, a=13.1, b=20)

    result = gated.perf()

    assert result.ret == 10
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "stored cpu 10 -> 13.1  +31% (5 runs at 9.9..10.1, T 20%)",
            f"(baseline: {FILE})",
            " FAIL  *::test_timed[[]a[]]   stored cpu 10 -> 13.1  +31% (5 runs at 9.9..10.1, T 20%)",
            " stored time: 1 no change detected, 1 slower",
        ]
    )
    run = json.loads(gated.read(".pagedkv-perf/run.json"))
    found = run["benchmarks"][key("a")]["stored"]
    assert run["environment"]["slug"] == SLUG
    assert run["benchmarks"][key("a")]["verdict"] == "worse"
    assert (found["verdict"], found["is_gated"], found["tolerance"]) == ("worse", True, 0.2)
    assert (found["centre"], found["baseline_centre"]) == (13.1, 10)
    assert found["history"] == [*STEADY]


SLOW_MOMENT = """
factors = [2]
metering.sleep = lambda _: factors.clear()

def slowed(units):
    spend(units * (sum(factors) or 1))
"""


def test_a_slow_moment_is_no_regression(gated: Project) -> None:
    """A time that differs is taken again after a pause, and the one nearest to what is stored counts."""
    gated.write("conftest.py", CLOCK + SLOW_MOMENT)
    gated.write("test_timed.py", TIMED.replace("import spend", "import slowed as spend"))

    result = gated.perf()

    assert result.ret == 0
    result.stdout.fnmatch_lines([" stored time: 2 no change detected"])


@pytest.mark.parametrize(("centre", "word"), [(11.5, "slower"), (8.5, "faster"), (2, "faster")])
def test_what_does_not_fail_is_a_note(gated: Project, centre: float, word: str) -> None:
    """A rise within the tolerance, and every improvement, is told and passes."""
    times(gated, a=centre, b=20)

    result = gated.perf()

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            f" note  test_timed.py::test_timed[[]a[]]   stored cpu 10 -> {centre}*",
            f" stored time: 1 no change detected, 1 {word}",
        ]
    )


def test_a_short_history_does_not_gate(timed: Project) -> None:
    """Up to five stored runs a rise is a note, however large."""
    write_history(timed, a=(10.0, 10.0), b=(20.0,))
    times(timed, a=30, b=20)

    result = timed.perf()

    assert result.ret == 0
    result.stdout.fnmatch_lines([" note  *[[]a[]]   stored cpu 10 -> 30  +200% (2 runs at 10..10, T 20%)"])


def test_a_slow_run_does_not_become_its_own_baseline(gated: Project) -> None:
    """An update leaves its line alone, whether it fails or is a note; its neighbour's grows."""
    times(gated, a=13.1, b=20)
    failed = gated.perf("--pagedkv-update=timing")
    times(gated, a=11.5, b=20)
    noted = gated.perf("--pagedkv-update=timing")

    assert (failed.ret, noted.ret) == (10, 0)
    assert history(gated, "a") == STEADY
    assert history(gated, "b") == (20,) * 7
    noted.stdout.fnmatch_lines(
        [" note  *[[]a[]]   its time is not stored, it is slower than what is; accept*"]
    )


def test_it_is_accepted_by_name_with_a_reason(gated: Project) -> None:
    """Then it passes, begins a new history, and the reason is kept; other lines stay."""
    times(gated, a=13.1, b=20)

    result = gated.perf(f"--pagedkv-accept={key('a')}", "--pagedkv-reason=checks more")

    assert result.ret == 0
    assert (history(gated, "a"), history(gated, "b")) == ((13.1,), (20,) * 5)
    assert '"reason": "checks more"' in gated.read(FILE)


def test_accepting_elsewhere_stores_no_time(timed: Project) -> None:
    """Where no times of this environment are kept, accepting a counter does not begin to."""
    result = timed.perf(f"--pagedkv-accept={key('a')}", "--pagedkv-reason=x")

    result.stdout.fnmatch_lines([" note  *   nothing to accept: its counters are those of the baseline"])
    assert timed.perf("--pagedkv-update").ret == 0
    assert not (timed.path / "perf_baselines/timing").exists()


def test_a_full_history_rests(gated: Project) -> None:
    """After ten runs an update writes nothing, unless a centre has moved or is better."""
    write_history(gated, a=(10.0,) * 10, b=(20.0,) * 10)
    before = (gated.path / FILE).stat().st_mtime_ns

    times(gated, a=10.4, b=20.4)
    gated.perf("--pagedkv-update=timing")
    rested = (gated.path / FILE).stat().st_mtime_ns
    times(gated, a=5, b=20)
    gated.perf("--pagedkv-update=timing")

    assert rested == before
    assert (history(gated, "a"), history(gated, "b")) == ((5,), (20,) * 10)


def test_another_environment_is_incomparable_and_no_failure(gated: Project) -> None:
    """The field is named once; not a pass and not a failure, even where baselines are required."""
    gated.write(ENVIRONMENT, gated.read(ENVIRONMENT).replace('"cpu_model": "', '"cpu_model": "9'))
    times(gated, a=50, b=20)

    result = gated.perf("--pagedkv-require-baseline")

    assert result.ret == 0
    model = fingerprint().compared["cpu_model"]
    result.stdout.fnmatch_lines(
        [
            f" note  stored times of 2 benchmarks not compared: cpu model {model} here, 9{model} there",
            " stored time: 2 incomparable",
        ]
    )
    found = gated.benchmarks(".pagedkv-perf/run.json")[key("a")]["stored"]
    assert (found["verdict"], found["is_gated"]) == ("incomparable", False)
    assert gated.perf("--pagedkv-update=timing").ret == 0
    assert history(gated, "a") == (50,)


def test_another_folder_is_named(gated: Project) -> None:
    """Where only other environments are stored, the nearest is named with what differs."""
    other = (gated.path / ENVIRONMENT).parent
    other.rename(other.with_name("cpu-other"))
    file = gated.path / "perf_baselines/timing/cpu-other/env.json"
    file.write_text(file.read_text().replace('"torch": "', '"torch": "99'))

    result = gated.perf()

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [" note  stored times of 2 * no timings are stored for cpu-*; nearest is cpu-other: torch *"]
    )


def test_a_changed_source_is_incomparable(gated: Project) -> None:
    """The test's own lines count; comments and other tests do not. Required, it is exit 11."""
    gated.write("test_timed.py", "# a comment\n" + TIMED + "\n\ndef test_other(): pass\n")
    same = gated.perf("--pagedkv-require-baseline")
    gated.write("test_timed.py", TIMED.replace("spend(TIMES[name])", "(spend(TIMES[name]), 1)"))
    changed, required = gated.perf(), gated.perf("--pagedkv-require-baseline")

    assert (same.ret, changed.ret, required.ret) == (0, 0, 11)
    changed.stdout.fnmatch_lines([" note  stored times of 2 *: its source changed since it was stored"])
    required.assert_outcomes(failed=2)
    assert gated.perf("--pagedkv-update=timing", "--pagedkv-require-baseline").ret == 0
    assert history(gated, "a") == (10,)


def test_a_required_time_that_is_missing_is_a_failure(gated: Project) -> None:
    """Only where times of this environment are stored."""
    times(gated, a=10, b=20, c=30)
    gated.write("perf_baselines/counters/test_timed.json", render({key(n): Entry({"n": 1}) for n in "abc"}))

    missing = gated.perf("--pagedkv-require-baseline")
    (gated.path / ENVIRONMENT).parent.rename(gated.path / "elsewhere")
    nowhere = gated.perf("--pagedkv-require-baseline")

    assert (missing.ret, nowhere.ret) == (11, 0)
    missing.stdout.fnmatch_lines(
        [" FAIL  test_timed.py::test_timed[[]c[]]   no time is stored, and others are"]
    )
    nowhere.stdout.no_fnmatch_line("*stored time*")


def test_only_what_passed_is_stored(gated: Project) -> None:
    """A test that failed leaves its line as it is; one that is gone loses it."""
    gated.write("test_timed.py", TIMED + "    assert name != 'a'\n")
    times(gated, a=10, c=30)

    result = gated.perf("--pagedkv-update=timing")

    assert result.ret == 1
    assert (history(gated, "a"), history(gated, "b"), history(gated, "c")) == (STEADY, (), (30,))


def test_the_controller_stores_for_all_workers(gated: Project) -> None:
    """Under pytest-xdist the verdict is the same, and one process writes."""
    arguments = ("-p", "xdist", "-n1", "-p", "no:cacheprovider")
    times(gated, a=13.1, b=20)

    result = gated.perf(*arguments, "--pagedkv-update=timing")

    assert result.ret == 10
    result.stdout.fnmatch_lines(["*stored cpu 10 -> 13.1  +31% (5 runs at 9.9..10.1, T 20%)"])
    assert (history(gated, "a"), history(gated, "b")) == (STEADY, (20,) * 6)


def test_a_damaged_file_ends_the_session_before_any_test(gated: Project) -> None:
    """A conflict is a usage error of one line, and the file stays as it is."""
    gated.write(FILE, "<<<<<<< HEAD\n")

    result = gated.perf("--pagedkv-update=timing")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.stderr.lines if line] == [
        f"ERROR: {FILE}:1: merge conflict marker; resolve the conflict: keep the lines of one side"
    ]
    assert gated.read(FILE) == "<<<<<<< HEAD\n"


def test_a_file_that_cannot_be_written_is_told_before(gated: Project) -> None:
    """A read-only line is a usage error, and nothing is half done."""
    (gated.path / FILE).chmod(0o444)

    result = gated.perf("--pagedkv-update=timing")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {FILE}: cannot be written (it is read-only), and is as it was; *"])


def test_another_seed_is_another_workload(gated: Project) -> None:
    """Its times are not compared with those of the project's seed."""
    times(gated, a=50, b=20)

    result = gated.perf("--pagedkv-seed=7")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*stored times of 2 *: baselines belong to seed 0, this run has 7"])


@pytest.mark.parametrize(
    ("verdict", "is_excused", "fails"),
    [
        (Verdict.SAME, False, False),
        (Verdict.NOISY, False, True),
        (None, False, True),
        (Verdict.WORSE, False, True),
        (Verdict.WORSE, True, False),
    ],
)
def test_a_duet_knows_better(tmp_path: Path, verdict: Verdict | None, is_excused: bool, fails: bool) -> None:
    """Where base and head took turns and are the same, the machine became slower; or it is accepted."""
    judged = Judgement(verdict) if verdict else None
    slow = StoredResult(verdict=Verdict.WORSE, tolerance=0.2, fails=True)
    duet = SimpleNamespace(judgement=judged, is_excused=is_excused)
    run = SimpleNamespace(duets={"k": duet}, options=SimpleNamespace(accept=()))

    assert stored.fails_for(run, Timings(tmp_path, "b", fingerprint()), "k", slow) is fails


WAITS = """
import pytest

@pytest.mark.pagedkv_perf(metric="wall")
def test_waits(pagedkv_benchmark):
    pagedkv_benchmark(lambda: None, rounds=3)

@pytest.mark.pagedkv_perf
def test_counts(pagedkv_benchmark):
    pagedkv_benchmark.record(n=1)
"""


def test_only_cpu_time_is_stored(timed: Project) -> None:
    """Elapsed time has no unit that would make it comparable; what is not timed has none at all."""
    timed.write("test_waits.py", WAITS)

    assert timed.perf("--pagedkv-update=timing").ret == 0

    assert {path.name for path in Path(timed.path / FILE).parent.iterdir()} == {"env.json", "test_timed.json"}
    assert timed.benchmarks(".pagedkv-perf/run.json")["test_waits.py::test_waits"]["stored"] is None


METERED = """
import pytest

@pytest.mark.pagedkv_perf(meters=("python_calls",))
def test_metered(pagedkv_benchmark):
    pagedkv_benchmark(lambda: [abs(i) for i in range(CALLS)], rounds=1)
"""


def test_python_calls_are_an_exact_counter(project: Project) -> None:
    """By the marker's argument they are stored and gated, apart for each version of Python."""
    project.write("test_metered.py", METERED.replace("CALLS", "100"))
    name, file = versioned("python_calls"), "perf_baselines/counters/test_metered.json"
    assert project.perf("--pagedkv-update").ret == 0
    count = project.benchmarks(file)["test_metered.py::test_metered"]["counters"][name]
    project.write(file, project.read(file).replace(f'"{name}"', f'"python_calls_py399": 7, "{name}"'))
    same = project.perf()
    project.write("test_metered.py", METERED.replace("CALLS", "110"))
    more = project.perf()
    assert project.perf("--pagedkv-update").ret == 0

    assert 100 <= count <= 103
    assert (same.ret, more.ret) == (0, 10)
    more.stdout.fnmatch_lines([f"{name} {count} -> {count + 10} (worse)"])
    assert project.benchmarks(file)["test_metered.py::test_metered"]["counters"] == {
        name: count + 10,
        "python_calls_py399": 7,
    }


def test_meters_are_shown_and_not_compared(project: Project) -> None:
    """By the option they run for every benchmark, in the section and in run.json."""
    project.write(
        "test_metered.py", METERED.replace('(meters=("python_calls",))', "").replace("CALLS", "100")
    )

    result = project.perf("--pagedkv-meters=python_calls,peak_memory")

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            " meters of one call (not compared)",
            "  test_metered.py::test_metered  python_calls_py3* 10*, peak_host_bytes *",
        ]
    )
    measured = project.benchmarks(".pagedkv-perf/run.json")["test_metered.py::test_metered"]
    assert set(measured["meters"]) == {versioned("python_calls"), "peak_host_bytes"}
    assert measured["counters"] == {}
