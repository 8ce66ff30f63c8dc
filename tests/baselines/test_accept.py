"""`pagedkv baselines accept`: what is stored of a finished run, and what never is."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_pagedkv.baselines.commands.runfile import read_run
from pytest_pagedkv.baselines.fingerprint import Fingerprint, fingerprint
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.timing_schema import TimingEntry
from pytest_pagedkv.baselines.timing_store import Timings
from tests.baselines.conftest import FINISHED, PASSED, Project, key
from tests.plugin.conftest import Project as PytestProject

HERE = fingerprint()
WHY = "--reason=the pool grew"
ADMIT, FORK, FREE, LATE = map(key, ("admit", "fork", "free", "late"))
FAILED = PASSED | {"call": "failed"}


@pytest.fixture
def ran(project: Project) -> Project:
    """The project, with a run in which two benchmarks moved, one is new, and one is the same."""
    project.ran(
        {
            ADMIT: {
                "counters": {"blocks_allocated": 700, "steps": 7},
                "outcomes": FAILED,
                "failed_gate": True,
            },
            FORK: {"counters": {"cow_copies": 1, "cache_hits": 10}, "outcomes": FAILED, "failed_gate": True},
            FREE: {"counters": {"n": 1}, "verdict": "same"},
            LATE: {"counters": {"n": 5}, "verdict": "new", "nodeid": "../" + LATE},
        }
    )
    return project


def timed(centre: float = 10.0, **about: object) -> dict[str, object]:
    """What a run file says of a calibrated time."""
    return {"metric": "cpu", "centre": centre, "spread": 0.01, "source": "abc", **about}


def environment(here: Fingerprint = HERE) -> dict[str, object]:
    """What a run file says of the machine."""
    return {"slug": here.slug, "fields": dict(here.compared), "recorded": dict(here.recorded)}


def store_time(project: Project, name: str) -> None:
    """Store a time of 10 for this environment."""
    change = TimingEntry(metric="cpu", history=(10.0,), spread=0.01, source="abc")
    timings(project).update({name: lambda _: change})


def timings(project: Project, here: Fingerprint = HERE) -> Timings:
    """The timings that are stored for this environment."""
    return Timings(project.path / "perf_baselines", "perf_baselines", here)


def test_one_is_stored_with_its_reason(ran: Project) -> None:
    """The named one is stored with the reason, everything else is as it was, and what was done is said."""
    before = ran.stored()

    found = ran.baselines("accept", ADMIT, WHY)

    assert (found.code, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        f".pagedkv-perf/run.json, a run of {FINISHED}",
        f"changed  {ADMIT}",
        "  blocks_allocated 640 -> 700 (worse)",
        "stored in perf_baselines/counters/test_pool.json",
        "1 stored, 0 the same, 0 refused",
    ]
    stored = {"counters": {"blocks_allocated": 700, "steps": 7}, "reason": "the pool grew"}
    assert ran.stored() == before | {ADMIT: stored}


def test_all_that_can_be_stored(ran: Project) -> None:
    """--all takes the whole run; what is the same is not touched."""
    found = ran.json("accept", "--all", WHY)

    assert set(found["accepted"]) == {ADMIT, FORK, LATE}
    assert (found["same"], found["refused"]) == ([FREE], {})
    assert found["files"] == ["perf_baselines/counters/test_pool.json"]
    assert ran.stored()[FREE] == {"counters": {"n": 1}}
    assert ran.stored()[LATE] == {"counters": {"n": 5}, "reason": "the pool grew"}
    assert ran.json("accept", "--all")["accepted"] == {}


def test_a_run_elsewhere_and_pytests_own_name(ran: Project) -> None:
    """The run file may be named, and a benchmark as pytest names it; twice is once."""
    (ran.path / ".pagedkv-perf/run.json").rename(ran.path / "ci.json")

    found = ran.json("accept", "ci.json", "../" + LATE, LATE)

    assert found["run"] == "ci.json"
    assert set(found["accepted"]) == {LATE}


def test_new_ones_need_no_reason(ran: Project) -> None:
    """A line that is added tells its own story; one that changes does not."""
    assert ran.baselines("accept", LATE).code == 0
    before = ran.stored()
    for words in ((ADMIT,), ("--all",)):
        message = ran.fails("accept", *words)
        assert f"a stored baseline would change ({ADMIT}" in message
        assert "say why with --reason TEXT; nothing is written" in message
    assert "(tests/perf/test_pool.py::test_admit and 1 more)" in ran.fails("accept", "--all")
    assert ran.stored() == before


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"outcomes": FAILED, "failed_gate": False}, "it did not pass: call failed"),
        ({"outcomes": FAILED, "verdict": None}, "it did not pass: call failed"),
        ({"outcomes": PASSED | {"teardown": "failed"}}, "it did not pass: teardown failed"),
        ({"outcomes": {"setup": "skipped"}}, "it did not pass: setup skipped"),
        ({"outcomes": PASSED | {"call": "xfailed"}}, "it did not pass: call xfailed"),
        ({"outcomes": {}}, "it did not pass: setup did not run"),
        ({"verdict": "nondeterministic", "details": ["n: 1, 2"]}, "n: 1, 2"),
        (
            {"verdict": "worse", "counters_verdict": "nondeterministic"},
            "its counters are nondeterministic",
        ),
        ({"verdict": "incomparable"}, "it ran under another seed"),
        ({"verdict": None}, "it counts nothing"),
        ({"counters": None}, "it counts nothing"),
    ],
)
def test_what_is_never_stored(project: Project, about: dict[str, object], why: str) -> None:
    """What failed or depends on luck is refused by name, with nothing else written, and left out by --all."""
    before = project.stored()
    project.ran({ADMIT: {"counters": {"n": 2}, **about}, LATE: {"counters": {"n": 3}, "verdict": "new"}})

    message = project.fails("accept", LATE, ADMIT, WHY)

    assert f"not accepted, and nothing is written: {ADMIT}: {why}" in message
    assert project.stored() == before
    found = project.baselines("accept", "--all", WHY).stdout
    assert f"refused  {ADMIT}\n  {why}" in found
    assert found.endswith("1 stored, 0 the same, 1 refused\n")
    assert project.stored() == before | {LATE: {"counters": {"n": 3}, "reason": "the pool grew"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the benchmarks to accept, or give --all"),
        ((ADMIT, "--all"), "not both"),
        ((ADMIT, "--reason= "), "--reason is empty"),
        ((key("admitt"), WHY), f"has no benchmark '{key('admitt')}'; near ones: {ADMIT}"),
        (("missing.json", ADMIT), "missing.json: cannot be read (No such file or directory); run `pytest"),
        (("perf_baselines/counters/test_pool.json", ADMIT), "is a file of baselines"),
    ],
)
def test_wrong_words(ran: Project, arguments: tuple[str, ...], message: str) -> None:
    """What cannot be meant is told, and nothing is written."""
    before = ran.stored()

    assert message in ran.fails("accept", *arguments)
    assert ran.stored() == before


def test_a_damaged_baseline_is_not_written_over(ran: Project) -> None:
    """A file that cannot be read stays as it is."""
    path = ran.write("perf_baselines/counters/test_pool.json", "{")

    assert "perf_baselines/counters/test_pool.json:1: not JSON" in ran.fails("accept", LATE)
    assert path.read_text() == "{"


def test_a_read_only_file_stops_everything_before_it_begins(project: Project) -> None:
    """Of two files one cannot be written: the other one is not written either."""
    other = key("x", "tests/test_a.py")
    project.ran({other: {"counters": {"n": 1}, "verdict": "new"}, ADMIT: {"counters": {"steps": 9}}})
    path = project.path / "perf_baselines/counters/test_pool.json"
    path.chmod(0o444)

    assert "test_pool.json: cannot be written (it is read-only)" in project.fails("accept", "--all", WHY)
    assert not (path.parent / "test_a.json").exists()


def test_a_full_disk_leaves_whole_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """When room runs out at the second file, it is as it was, and the message names the first."""
    other = key("x", "tests/test_a.py")
    project.ran({other: {"counters": {"n": 1}, "verdict": "new"}, ADMIT: {"counters": {"steps": 9}}})
    before, written = project.stored(), []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    message = project.fails("accept", "--all", WHY)

    assert "test_pool.json: cannot be written (No space left on device), and is as it was" in message
    assert message.endswith("; written before: perf_baselines/counters/test_a.json\n")
    assert project.stored() == before
    assert sorted(path.name for path in (project.path / "perf_baselines/counters").iterdir()) == [
        "test_a.json",
        "test_pool.json",
    ]


def test_counters_of_other_pythons_are_kept(project: Project) -> None:
    """What another version of Python counted stays in the line, whichever version runs the command."""
    project.store({ADMIT: Entry({"n": 1, "python_calls_py39": 7, "python_calls_py38": 6})})
    project.ran({ADMIT: {"counters": {"n": 2, "python_calls_py39": 8}}}, python="3.9.1")

    found = project.json("accept", ADMIT, WHY)

    assert found["accepted"][ADMIT] == ["python_calls_py39 7 -> 8 (worse)", "n 1 -> 2 (changed)"]
    assert project.stored()[ADMIT]["counters"] == {"n": 2, "python_calls_py39": 8, "python_calls_py38": 6}
    project.ran({ADMIT: {"counters": {"n": 2, "python_calls_py310": 9}}}, python="3.10.0")
    assert project.json("accept", ADMIT)["same"] == [ADMIT]
    assert project.json("diff", "perf_baselines", ".pagedkv-perf/run.json")["changes"] == []


def test_times_are_stored_with_the_counters(project: Project) -> None:
    """A run stores its times where some of its environment are stored already, and only there."""
    store_time(project, FREE)
    other = Fingerprint(HERE.compared | {"cpu_count": "512"}, {})
    project.ran(
        {LATE: {"counters": {"n": 1}, "verdict": "new", "stored": timed()}}, environment=environment()
    )

    found = project.baselines("accept", LATE)

    assert f"stored in perf_baselines/timing/{HERE.slug}/test_pool.json" in found.stdout.splitlines()
    assert timings(project).get(LATE).history == (10.0,)  # type: ignore[union-attr]
    assert project.stored()[LATE] == {"counters": {"n": 1}}
    project.ran({FREE: {"counters": {"n": 1}, "stored": timed()}}, environment=environment(other))
    assert project.json("accept", FREE)["same"] == [FREE]
    assert [path.name for path in (project.path / "perf_baselines/timing").iterdir()] == [HERE.slug]


def test_a_new_time_hides_no_change(project: Project) -> None:
    """A changed line takes a reason, also if the benchmark's time is a new one."""
    store_time(project, FREE)
    project.ran({ADMIT: {"counters": {"steps": 9}, "stored": timed()}}, environment=environment())

    assert "a stored baseline would change" in project.fails("accept", ADMIT)


def test_a_slower_time_takes_a_reason(project: Project) -> None:
    """It begins a new history; one that is as usual is not written."""
    about = {"counters": {"n": 1}, "verdict": "same", "outcomes": FAILED, "failed_gate": True}
    store_time(project, FREE)
    project.ran({FREE: about | {"stored": timed(10.3)}}, environment=environment())
    assert project.json("accept", FREE)["same"] == [FREE]
    project.ran({FREE: about | {"stored": timed(15.0)}}, environment=environment())

    assert "a stored baseline would change" in project.fails("accept", FREE)
    found = project.json("accept", FREE, WHY)

    assert found["accepted"][FREE] == ["stored cpu 10 -> 15  +50% (1 run at 10, T 20%) (worse)"]
    stored = timings(project).get(FREE)
    assert stored is not None
    assert (stored.history, stored.reason) == ((15.0,), "the pool grew")
    assert project.stored()[FREE] == {"counters": {"n": 1}}


@pytest.mark.parametrize(
    ("top", "about", "message"),
    [
        (
            {"environment": {"slug": "x", "fields": {}}},
            {},
            "the fields of its environment do not give its name",
        ),
        ({"environment": []}, {}, "environment should be a JSON object, and is []"),
        (
            {"environment": environment()},
            {"stored": timed(-1)},
            "the time of 'a::b' is -1, which is no number",
        ),
        ({"environment": environment()}, {"stored": timed(10**400)}, "the time of 'a::b' is 1000"),
        ({"environment": environment()}, {"stored": timed(spread=True)}, "the spread of 'a::b' is True"),
        ({}, {"threshold": "7%"}, "the threshold of 'a::b' is '7%'"),
    ],
)
def test_a_damaged_time(
    project: Project, top: dict[str, object], about: dict[str, object], message: str
) -> None:
    """What is no time or no environment is refused."""
    project.ran({"a::b": {"counters": {"n": 1}, **about}}, **top)

    assert message in project.fails("accept", "a::b")


def test_a_real_run_is_accepted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, folder: Project
) -> None:
    """What pytest found and refused is accepted without a second run, and the next run passes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.chdir(pytester.path)
    pytester.makeini("[pytest]\npagedkv_suite = false\n")
    tested, here = PytestProject(pytester), Project(Path(pytester.path), folder.capsys)
    tested.stored(a={"n": 1}, b={"n": 1})
    tested.gated(a={"n": 2}, b={"n": 1})
    assert tested.perf().ret == 10

    shown = here.baselines("diff", "perf_baselines", ".pagedkv-perf/run.json")
    accepted = here.baselines("accept", "test_gated.py::test_gated[a]", WHY)

    assert ["n", "1", "->", "2", "+100.0%", "changed"] in [line.split() for line in shown.stdout.splitlines()]
    assert accepted.code == 0
    run_file = read_run(here.path / ".pagedkv-perf/run.json", "run.json")
    assert run_file.environment == replace(HERE, recorded=run_file.environment.recorded)  # type: ignore[union-attr]
    assert all(each.timed for each in run_file.measurements.values())
    assert tested.perf("--pagedkv-require-baseline").ret == 0
