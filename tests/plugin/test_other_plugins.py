"""Beside pytest-benchmark, pytest-xdist and unusual command lines."""

import json

import pytest

from tests.plugin.conftest import Project
from tests.plugin.test_gate import LUCK

BENCHMARK = ("-p", "pytest_benchmark.plugin")
XDIST = ("-p", "xdist.plugin")

TIMED = """
import pytest

@pytest.mark.pagedkv_perf(group="ours")
@pytest.mark.benchmark(group="theirs", min_rounds=2)
def test_both(pagedkv_benchmark):
    pagedkv_benchmark(sorted, setup=lambda: [3, 1, 2], rounds=6)
    pagedkv_benchmark.record(n=1)

@pytest.mark.pagedkv_perf
def test_their_own(benchmark, pagedkv_benchmark):
    benchmark.pedantic(int)
    pagedkv_benchmark(int, rounds=2)

@pytest.mark.pagedkv_perf
def test_counters_only(pagedkv_benchmark):
    pagedkv_benchmark.record(n=1)
"""


def test_pytest_benchmark_gets_our_samples(project: Project) -> None:
    """Its table and JSON have the very numbers of our section, in our group."""
    project.write("test_timed.py", TIMED)

    result = project.perf(*BENCHMARK, "--benchmark-json=out.json", "-W", "error")

    assert result.ret == 0
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            " times of one call (not compared), not in *: the test uses its fixture itself",
            "*benchmark 'ours': 1 tests*",
        ]
    )
    theirs = json.loads(project.read("out.json"))["benchmarks"]
    ours = project.benchmarks(".pagedkv-perf/run.json")["test_timed.py::test_both"]["timing"]
    assert [(entry["group"], entry["name"], entry["stats"]["rounds"]) for entry in theirs] == [
        ("ours", "test_both", 6),
        (None, "test_their_own", 1),
    ]
    assert theirs[0]["options"]["timer"].endswith("measured_time")
    assert [1e9 * sample for sample in theirs[0]["stats"]["data"]] == pytest.approx(ours["samples_ns"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("-p", "no:benchmark"), "it is not loaded"),
        ((*BENCHMARK, "--benchmark-disable", "-W", "error"), "it is disabled"),
        ((*BENCHMARK, "--benchmark-skip"), "it skips everything (--benchmark-skip)"),
        ((*BENCHMARK, "-p", "other"), "its fixture is overridden by another plugin"),
    ],
)
def test_without_pytest_benchmark_we_time_all_the_same(
    project: Project, arguments: tuple[str, ...], reason: str
) -> None:
    """Absent, disabled, skipping or overridden: the section has the times, and says why only it has."""
    project.write("test_timed.py", TIMED)
    module = project.path / "test_timed.py"
    module.write_text(
        TIMED.replace("their_own(benchmark,", "their_own(").replace("    benchmark.pedantic(int)\n", "")
    )
    project.is_apart = "other" in arguments  # found in the current folder
    project.write("other.py", "import pytest\n@pytest.fixture\ndef benchmark(): return print\n")

    result = project.perf(*arguments)

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [f" times of one call (not compared), not in pytest-benchmark's report: {reason}"]
    )
    result.stdout.fnmatch_lines(["  test_timed.py::test_both cpu * 6 x *"])
    result.stdout.no_fnmatch_line("*benchmark: 1 tests*")


@pytest.mark.parametrize("distribution", ["loadgroup", pytest.param("load", marks=pytest.mark.heavy)])
def test_workers_judge_and_the_controller_writes(project: Project, distribution: str) -> None:
    """Under pytest-xdist verdicts, exit code, files, stale and new benchmarks are as in one process."""
    project.stored(a={"n": 1}, b={"n": 1}, gone={"n": 1})
    project.gated(a={"n": 1}, b={"n": 2}, new={"n": 1})
    module = project.path / "test_gated.py"
    module.write_text(
        module.read_text()
        .replace("pagedkv_perf", "pagedkv_perf, pytest.mark.xdist_group('g')", 1)
        .replace("= pytest.mark", "= [pytest.mark", 1)
        .replace("('g')", "('g')]", 1)
    )
    arguments = (*XDIST, *BENCHMARK, "-n2", f"--dist={distribution}")

    result = project.perf(*arguments, "--junitxml=junit.xml")

    assert result.ret == 10
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "pagedkv: counting under PYTHONHASHSEED=0 first, in a second process ...",
            " FAIL  test_gated.py::test_gated[[]b[]]   n 1 -> 2 (changed)",
            " new   test_gated.py::test_gated[[]new[]]   1 counter",
            " stale test_gated.py::test_gated[[]gone[]]   its test is gone",
            " 1 unchanged, 1 changed, 1 new",
            "*not in pytest-benchmark's report: pytest-xdist switches it off",
        ]
    )
    assert project.read("junit.xml").count('name="pagedkv.verdict"') == 3
    if distribution == "load":
        assert project.perf(*arguments, "--maxfail=1").ret == 10
        assert project.perf(*arguments, "--pagedkv-update").ret == 0
        stored = project.benchmarks("perf_baselines/counters/test_gated.json")
        assert [entry["counters"]["n"] for entry in stored.values()] == [1, 2, 1]
        assert project.perf("--pagedkv-require-baseline").ret == 0


def test_workers_refuse_luck_and_unknown_names(project: Project) -> None:
    """Under pytest-xdist too a nondeterministic counter is exit 12, and an unknown name a usage error."""
    project.write("test_luck.py", LUCK)

    luck = project.perf(*XDIST, "-n2", "--pagedkv-update")
    unknown = project.perf(*XDIST, "-n2", "--pagedkv-accept=test_luck.py::test_lack", "--pagedkv-reason=x")

    assert (luck.ret, unknown.ret) == (12, pytest.ExitCode.USAGE_ERROR)
    luck.stdout.fnmatch_lines(["nondeterministic counter order: * under PYTHONHASHSEED=1, *=0"])
    unknown.stderr.fnmatch_lines(["*this run has no benchmark *; near ones: test_luck.py::test_luck"])
    assert not (project.path / "perf_baselines").exists()


def test_quiet_runs_work(project: Project) -> None:
    """Without terminal, header, cache or summary, and twice quiet, the verdict is the same."""
    project.stored(a={"n": 1})
    project.gated(a={"n": 2})

    silent = project.perf("-p", "no:terminal", "-p", "no:cacheprovider")
    quiet = project.perf("-qq", "--no-header", "--tb=no")

    assert (silent.ret, quiet.ret) == (10, 10)
    assert (silent.stdout.str(), silent.stderr.str()) == ("", "")
    quiet.stdout.fnmatch_lines([" FAIL  test_gated.py::test_gated[[]a[]]   n 1 -> 2 (changed)"])
    quiet.stdout.no_fnmatch_line("pagedkv: perf*")


def test_a_file_that_cannot_be_collected_is_told_by_pytest(project: Project) -> None:
    """Under pytest-xdist too it is pytest's own report of an error in collection, not one of ours."""
    project.gated(a={"n": 1})
    project.write("test_broken.py", "import nothing_of_that_name\n")

    result = project.perf(*XDIST, "-n1")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting test_broken.py*", "*ModuleNotFoundError*"])
    assert "second counting pass" not in result.stderr.str() + result.stdout.str()
