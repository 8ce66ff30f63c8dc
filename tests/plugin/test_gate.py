"""Verdicts and exit codes of whole runs."""

import pytest

from tests.plugin.conftest import GATED, Project

BEFORE = {
    "same": {"n": 1},
    "worse": {"cow_copies": 0, "hits": 3},
    "better": {"evictions": 5},
    "changed": {"rows": 5, "gone": 1},
}
AFTER = {
    "same": {"n": 1},
    "worse": {"cow_copies": 128, "hits": 3},
    "better": {"evictions": 4},
    "changed": {"rows": 6, "come": 1},
    "new": {"n": 1},
}
LUCK = """
import pytest

@pytest.mark.pagedkv_perf
def test_luck(pagedkv_benchmark):
    words = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"}
    pagedkv_benchmark.record(order=sum(i * ord(word[0]) for i, word in enumerate(words)), steady=1)
"""

UNITTEST = """
import pytest, unittest

@pytest.mark.pagedkv_perf
class TestPlain(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def count(self, pagedkv_benchmark):
        pagedkv_benchmark.record(n=1)

    def test_plain(self):
        self.fail("mine")
"""


@pytest.fixture
def stored(project: Project) -> Project:
    """A project whose baselines are stored, and whose counters then moved."""
    project.stored(**BEFORE)
    project.gated(**AFTER)
    return project


def test_a_regression_is_a_failed_test(stored: Project) -> None:
    """Every inequality fails in the call phase with its numbers and the command that accepts it; exit 10."""
    result = stored.perf("--junitxml=junit.xml")

    assert result.ret == 10
    result.assert_outcomes(failed=3, passed=2)
    result.stdout.fnmatch_lines(
        [
            "come absent -> 1 (changed)",
            "gone 1 -> absent (changed)",
            "rows 5 -> 6 (changed)",
            "(baseline: perf_baselines/counters/test_gated.json)",
            "*= pagedkv perf =*",
            "5 benchmarks, baselines perf_baselines, counted under PYTHONHASHSEED 1 and 0",
            " FAIL  test_gated.py::test_gated[[]better[]]   evictions 5 -> 4 (better)",
            " FAIL  test_gated.py::test_gated[[]changed[]]",
            "         come absent -> 1 (changed), gone 1 -> absent (changed), rows 5 -> 6 (changed)",
            " FAIL  test_gated.py::test_gated[[]worse[]]   cow_copies 0 -> 128 (worse)",
            "       accept what is right with: pytest * --pagedkv-accept='test_gated.py::*[[]better[]]' *",
            "       accept all 3 with: pytest --pagedkv-perf --pagedkv-update",
            " new   test_gated.py::test_gated[[]new[]]   1 counter",
            "*accept the new ones with: mkdir -p perf_baselines && cp -r .pagedkv-perf/candidates/counters *",
            " 1 unchanged, 1 improved, 1 worse, 1 changed, 1 new",
            "FAILED test_gated.py::test_gated[[]worse[]] - Failed: cow_copies 0 -> 128 (worse)",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert result.stdout.str().count("--pagedkv-accept") == 1
    junit = stored.read("junit.xml")
    assert '<property name="pagedkv.cow_copies" value="128"' in junit
    assert '<property name="pagedkv.verdict" value="worse"' in junit
    assert 'failures="3"' in junit


def test_the_candidate_command_accepts_the_new_ones_only(stored: Project) -> None:
    """What the printed command copies has the new benchmark and the old lines, regressions not taken in."""
    result = stored.perf()
    command = next(line for line in result.outlines if "accept the new ones with: " in line)
    old = stored.benchmarks("perf_baselines/counters/test_gated.json")

    stored.pytester.run("sh", "-c", command.partition("with: ")[2])

    new = stored.benchmarks("perf_baselines/counters/test_gated.json")
    assert new == old | {"test_gated.py::test_gated[new]": {"counters": {"n": 1}}}
    assert stored.perf("-k", "new or same").ret == 0


def test_a_run_file_has_everything(stored: Project) -> None:
    """Counters, baseline, verdict, outcome, marker and samples of every benchmark are in run.json."""
    stored.perf()

    found = stored.benchmarks(".pagedkv-perf/run.json")
    worse = found["test_gated.py::test_gated[worse]"]
    assert len(found) == len(AFTER)
    assert (worse["verdict"], worse["counters"], worse["baseline"]) == (
        "worse",
        AFTER["worse"],
        BEFORE["worse"],
    )
    assert (worse["metric"], worse["threshold"], worse["outcomes"]["call"]) == ("cpu", 0.07, "failed")
    assert len(worse["timing"]["samples_ns"]) == 1
    assert stored.read(".pagedkv-perf/.gitignore") == "*\n"


def test_a_required_baseline_that_is_missing_is_a_failure(stored: Project) -> None:
    """Missing is exit 11, alone and beside regressions; the seed of another workload is incomparable."""
    alone = stored.perf("--pagedkv-require-baseline", "-k", "new or same")
    both = stored.perf("-o", "pagedkv_require_baseline=true")
    seed = stored.perf("--pagedkv-seed=5", "-k", "same or worse")
    required = stored.perf("--pagedkv-seed=5", "-k", "same", "--pagedkv-require-baseline")

    assert (alone.ret, both.ret, seed.ret, required.ret) == (11, 11, 0, 11)
    alone.stdout.fnmatch_lines(
        ["there is no baseline", " FAIL  *   there is no baseline", "*accept the new ones with: mkdir *"]
    )
    both.assert_outcomes(failed=4, passed=1)
    seed.stdout.fnmatch_lines(
        [" note  *worse*   baselines belong to seed 0, this run has 5", " 2 incomparable"]
    )


def test_an_ordinary_failure_keeps_its_exit_code(stored: Project) -> None:
    """A failed assertion (of unittest, which does not raise it) is exit 1, a nondeterministic counter 12."""
    stored.is_apart = True  # under the hash seed that is set
    stored.write("test_luck.py", LUCK)
    stored.write("test_plain.py", UNITTEST)

    everything = stored.perf()
    luck = stored.perf("test_gated.py", "test_luck.py")

    assert (everything.ret, luck.ret) == (1, 12)
    luck.stdout.fnmatch_lines(
        [
            "nondeterministic counter order: * under PYTHONHASHSEED=1, * under PYTHONHASHSEED=0",
            " 1 unchanged, 1 improved, 1 worse, 1 changed, 1 new, 1 nondeterministic",
        ]
    )
    assert "steady" not in luck.stdout.str()
    everything.stdout.fnmatch_lines(["*1 failed otherwise*", "FAILED *test_plain - AssertionError: mine"])


def test_the_first_failure_can_end_the_run_and_be_run_again(stored: Project) -> None:
    """With -x or --sw a regression stops the run, and --lf runs exactly what failed."""
    stepwise = stored.perf("--sw")
    first = stored.perf("-x")
    again = stored.perf("--lf")

    assert (stepwise.ret, first.ret, again.ret) == (10, 10, 10)
    first.assert_outcomes(passed=1, failed=1)
    again.assert_outcomes(failed=1)
    again.stdout.no_fnmatch_line(" stale *")


def test_files_of_one_name_in_two_folders_are_gated_apart(project: Project) -> None:
    """Both live in one baseline file, and only the one that moved fails."""
    for folder in ("x", "y"):
        project.write(f"{folder}/__init__.py", "")
        project.write(f"{folder}/test_gated.py", GATED)
        project.write(f"{folder}/values.json", '{"a": {"n": 1}}')
    assert project.perf("--pagedkv-update").ret == 0
    project.write("y/values.json", '{"a": {"n": 2}}')

    result = project.perf()

    assert result.ret == 10
    assert sorted(project.benchmarks("perf_baselines/counters/test_gated.json")) == [
        "x/test_gated.py::test_gated[a]",
        "y/test_gated.py::test_gated[a]",
    ]
    result.stdout.fnmatch_lines(
        [" FAIL  y/test_gated.py::test_gated[[]a[]]   n 1 -> 2 (changed)", " 1 unchanged*"]
    )


WORDS = """
import pytest
pytestmark = pytest.mark.pagedkv_perf
def test_nothing(): pass
@pytest.mark.parametrize("i", range(3))
def test_skipped(i): pytest.skip(f"reason {i % 2} " + "word " * 20)
@pytest.mark.xfail(reason="known")
def test_xfailed(pagedkv_benchmark): raise ValueError
@pytest.mark.parametrize("i", range(6))
def test_many(i, pagedkv_benchmark):
    pagedkv_benchmark(int, rounds=1)
    pagedkv_benchmark.record(**{f"rather_long_counter_{j}": j for j in range(8)})
"""


def test_the_section_fits_a_line_and_names_everything(project: Project) -> None:
    """Reasons of skips, expected failures, tests that count nothing, the worst counters; 100 columns."""
    project.write("tests/of/performance/test_words.py", WORDS)
    project.write(".pagedkv-perf", "in the way")

    result = project.perf("-q")
    assert project.perf("--pagedkv-update").ret == 0
    file = "perf_baselines/counters/test_words.json"
    project.write(file, project.read(file).replace('_3": 3', '_3": 4').replace('_5": 5', '_5": 4'))
    moved = project.perf("-q", "--tb=no")

    assert (result.ret, moved.ret) == (0, 10)
    result.stdout.fnmatch_lines(
        [
            "*[[]100%[]]",
            "*= pagedkv perf =*",
            " note  tests/of/performance/test_words.py::test_nothing   counts nothing",
            " note  .pagedkv-perf cannot be written: *",
            " new   tests/of/performance/test_words.py::test_many[[]0[]]   8 counters",
            "       accept the new ones with: pytest --pagedkv-perf --pagedkv-update",
            " 6 new, 1 without counters, 1 xfailed, 3 skipped: reason 0 * ..., +1 more",
            "  test_words.py::test_many[[]0[]] cpu *",
        ],
        consecutive=False,
    )
    moved.stdout.fnmatch_lines(
        [" FAIL  *test_many[[]5[]]", "         *_3 4 -> 3 (changed), *_5 4 -> 5 (changed)"]
    )
    told = [line for line in moved.outlines if "accept" not in line and not line.startswith("FAILED")]
    assert max(map(len, told)) <= 100


def test_a_run_without_benchmarks_says_so(project: Project) -> None:
    """Without any marked test there is one line, and what is stale is told and dropped all the same."""
    project.stored(a={"n": 1})
    project.write("test_gated.py", "def test_it(): pass\n")

    told, dropped = project.perf("-q"), project.perf("--pagedkv-update", "-q")

    assert (told.ret, dropped.ret) == (pytest.ExitCode.NO_TESTS_COLLECTED,) * 2
    told.stdout.fnmatch_lines(["no benchmark: *", " stale *", "*drop the stale ones with: pytest *"])
    told.stdout.no_fnmatch_line("pagedkv: counting*")
    dropped.stdout.fnmatch_lines(["no benchmark: *", " note  *   dropped, its test is gone"])
    assert not (project.path / "perf_baselines/counters/test_gated.json").exists()
