"""`pagedkv baselines list`: what is stored."""

import subprocess
import sys

import pytest

from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.slower import Slowdown
from tests.baselines.conftest import Project, key


def test_a_line_for_each_benchmark(project: Project) -> None:
    """By kind and test file, with the number of counters, and the reason of the last change."""
    project.store({key("a[1]", "tests/perf/test_one.py"): Entry({"n": 1})})

    found = project.baselines("list")

    assert (found.code, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "counters   4 benchmarks",
        " tests/perf/test_one.py",
        "   test_a[1]  1 counter",
        " tests/perf/test_pool.py",
        "   test_admit  2 counters",
        "   test_fork   2 counters",
        "     reason: beams share less",
        "   test_free   1 counter",
    ]


def test_times_stand_under_their_environment(project: Project) -> None:
    """Timings of several environments are told apart, with clock, centre and number of runs."""
    for slug, centre in (("cpu-a", 9.4), ("cpu-b", 12.25)):
        project.store_times({key("fork"): (centre, centre)}, slug)

    lines = project.baselines("list").stdout.splitlines()

    assert lines[-6:] == [
        "timing cpu-a   1 benchmark",
        " tests/perf/test_pool.py",
        "   test_fork  cpu x reference 9.4, 2 runs",
        "timing cpu-b   1 benchmark",
        " tests/perf/test_pool.py",
        "   test_fork  cpu x reference 12.25, 2 runs",
    ]


def test_accepted_slowdowns_stand_with_their_reason(project: Project) -> None:
    """They are a kind of their own, between counters and times."""
    project.accept_slower({key("fork"): Slowdown(0.124, "checks tokens exactly")})

    assert project.baselines("list").stdout.splitlines()[-4:] == [
        "slower   1 benchmark",
        " tests/perf/test_pool.py",
        "   test_fork  +12.4% accepted",
        "     reason: checks tokens exactly",
    ]
    assert project.json("list")["benchmarks"][-1] == {
        "kind": "slower",
        "environment": None,
        "benchmark": key("fork"),
        "slower": 0.124,
        "reason": "checks tokens exactly",
    }


def test_json_has_the_numbers(project: Project) -> None:
    """Every counter of every benchmark, with its place."""
    project.store_times({key("fork"): (9.4,)}, "cpu-a")

    found = project.json("list", "perf_baselines")

    assert found["directory"] == "perf_baselines"
    assert found["benchmarks"][1] == {
        "kind": "counters",
        "environment": None,
        "benchmark": key("fork"),
        "counters": {"cow_copies": 3, "cache_hits": 10},
        "reason": "beams share less",
    }
    timing = found["benchmarks"][-1]
    assert (timing["kind"], timing["environment"], timing["history"]) == ("timing", "cpu-a", [9.4])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "nope: no such folder; name the one that holds counters/ or timing/"),
        ("tests", "tests: holds no baselines; name the folder that holds counters/ or timing/"),
    ],
)
def test_a_folder_of_something_else(project: Project, name: str, message: str) -> None:
    """A folder that cannot be meant is told."""
    assert message in project.fails("list", name)


def test_timings_without_environment(project: Project) -> None:
    """Timings of which nobody knows where they were taken are refused by every command."""
    project.store_times({key("fork"): (9.4,)}, "cpu-a")
    (project.path / "perf_baselines/timing/cpu-a/env.json").unlink()

    for command in ("list", "diff", "prune"):
        message = project.fails(command)
        assert "perf_baselines/timing/cpu-a/env.json: cannot be read" in message
        assert "restore it from git, or delete perf_baselines/timing/cpu-a" in message


def test_an_empty_folder(folder: Project) -> None:
    """A folder without a single line has no benchmark."""
    (folder.path / "perf_baselines/counters").mkdir(parents=True)

    assert folder.baselines("list") == (0, "perf_baselines: no benchmark\n", "")


@pytest.mark.parametrize("arguments", [("list",), ("diff",), ("prune", "-n")])
def test_no_command_needs_pytest(project: Project, arguments: tuple[str, ...]) -> None:
    """They run where neither pytest nor numpy nor torch can be imported."""
    program = (
        "import sys\n"
        "for name in ('pytest', '_pytest', 'numpy', 'torch', 'hypothesis'): sys.modules[name] = None\n"
        "from pagedkv.cli import main\n"
        "raise SystemExit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "baselines", *arguments]

    found = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stderr) == (0, "")
