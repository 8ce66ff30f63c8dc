"""Storing baselines: what is written, what is refused, and what is kept."""

import pytest

from tests.plugin.conftest import Project
from tests.plugin.test_gate import LUCK

FILE = "perf_baselines/counters/test_gated.json"
REASON = "--pagedkv-reason=beams share less"


def lines_of(project: Project) -> dict[str, str]:
    """The benchmark lines of the baseline file, by the parameter of the test."""
    return {
        line.partition("[")[2].partition("]")[0]: line.rstrip(",") for line in project.read(FILE).splitlines()
    }


@pytest.fixture
def stored(project: Project) -> Project:
    """A project with baselines of three benchmarks, two of which then moved."""
    project.stored(a={"n": 1}, b={"n": 1}, c={"n": 1})
    project.gated(a={"n": 2}, b={"n": 2}, c={"n": 1})
    return project


def test_an_update_stores_what_moved(stored: Project) -> None:
    """Differences do not fail and are shown, the moved lines are rewritten, the next run is the same."""
    before = lines_of(stored)

    result = stored.perf("--pagedkv-update=counters")

    assert result.ret == 0
    result.stdout.fnmatch_lines([" note  *[[]a[]]   n 1 -> 2 (changed)", f" note  stored in {FILE}"])
    after = lines_of(stored)
    assert {name for name in after if after[name] != before[name]} == {"a", "b"}
    assert stored.perf("--pagedkv-require-baseline").ret == 0


def test_accepting_takes_one_line_and_its_reason(stored: Project) -> None:
    """The named one is stored with the reason, another one still fails; a later change drops the reason."""
    key = "test_gated.py::test_gated[a]"

    accepted = stored.perf(f"--pagedkv-accept={key}", REASON)
    again = stored.perf(f"--pagedkv-accept={key}", REASON, "-k", "[a]")
    updated = stored.perf("--pagedkv-update")

    assert (accepted.ret, again.ret, updated.ret) == (10, 0, 0)
    accepted.assert_outcomes(failed=1, passed=2)
    again.stdout.fnmatch_lines([" note  *[[]a[]]   nothing to accept: *"])
    entry = {"counters": {"n": 2}, "reason": "beams share less"}
    assert stored.benchmarks(FILE)[key] == entry
    assert stored.benchmarks(FILE)["test_gated.py::test_gated[b]"] == {"counters": {"n": 2}}

    stored.gated(a={"n": 3}, b={"n": 2}, c={"n": 1})
    stored.perf("--pagedkv-update")
    assert stored.benchmarks(FILE)[key] == {"counters": {"n": 3}}


def test_options_that_need_each_other_are_checked(project: Project) -> None:
    """Accept without reason or the reverse, storing without perf or under a foreign seed, unknown names."""
    project.gated(alpha={"n": 1}, beta={"n": 1})
    cases = {
        (
            "--pagedkv-perf",
            "--pagedkv-accept=x",
        ): "--pagedkv-accept=NODEID and --pagedkv-reason=TEXT go together",
        (
            "--pagedkv-perf",
            "--pagedkv-reason=x",
        ): "--pagedkv-accept=NODEID and --pagedkv-reason=TEXT go together",
        ("--pagedkv-perf", "--pagedkv-accept=x", "--pagedkv-reason= "): "--pagedkv-reason is empty",
        ("--pagedkv-update",): "need --pagedkv-perf",
        ("--pagedkv-perf", "--pagedkv-update", "--pagedkv-seed=4"): "the project's seed 0",
        ("--pagedkv-perf", "-o", "pagedkv_seed=x"): "ini value pagedkv_seed is 'x'; it must be an integer",
        ("--pagedkv-perf", "--pagedkv-update=times"): "invalid choice: 'times'",
        ("--pagedkv-perf", "--pagedkv-accept=test_gated.py::test_gated[alpah]", REASON): (
            "this run has no benchmark 'test_gated.py::test_gated[alpah]'; near ones: test_gated.py::*[alpha]"
        ),
    }

    for arguments, message in cases.items():
        result = project.run(*arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{message.replace('[', '[[]')}*"])
        assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert not (project.path / "perf_baselines").exists()


def test_what_failed_or_depends_on_luck_is_never_stored(project: Project) -> None:
    """A nondeterministic counter, a failing teardown and a failing test are kept out of the file."""
    project.is_apart = True  # under the hash seed that is set
    project.write("test_luck.py", LUCK)
    project.write(
        "test_fails.py",
        "import pytest\n"
        "pytestmark = pytest.mark.pagedkv_perf\n"
        "@pytest.fixture\n"
        "def broken():\n    yield\n    raise ValueError('late')\n"
        "def test_late(pagedkv_benchmark, broken): pagedkv_benchmark.record(n=1)\n"
        "def test_now(pagedkv_benchmark):\n    pagedkv_benchmark.record(n=1)\n    raise ValueError('now')\n",
    )

    result = project.perf("--pagedkv-update")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2, passed=1, errors=1)
    assert not (project.path / "perf_baselines").exists()


def test_stale_baselines_are_told_and_dropped(stored: Project) -> None:
    """A baseline without test is reported where that is certain, and dropped by an update."""
    gone = "test_gated.py::test_gated[[]c[]]"
    stored.write("test_skipped.py", "import pytest\npytest.skip('no', allow_module_level=True)\n")
    stored.write(
        "perf_baselines/counters/test_skipped.json",
        stored.read(FILE).replace("test_gated.py", "test_skipped.py"),
    )
    stored.write(
        "perf_baselines/counters/test_removed.json",
        stored.read(FILE).replace("test_gated.py", "test_removed.py"),
    )
    stored.gated(a={"n": 1}, b={"n": 1})

    single = stored.perf("test_gated.py::test_gated[a]")
    filtered = stored.perf("-k", "[a]")
    updated = stored.perf("--pagedkv-update")

    assert (single.ret, filtered.ret, updated.ret) == (0, 0, 0)
    single.stdout.no_fnmatch_line(" stale *")
    filtered.stdout.fnmatch_lines(
        [
            f" stale {gone}   its test is gone",
            " stale test_removed.py::*",
            "*drop the stale ones with: pytest *",
        ]
    )
    filtered.stdout.no_fnmatch_line("*stale test_skipped*")
    updated.stdout.fnmatch_lines([f" note  {gone}   dropped, its test is gone"])
    folder = stored.path / "perf_baselines" / "counters"
    assert sorted(path.name for path in folder.iterdir()) == ["test_gated.json", "test_skipped.json"]
    assert len(stored.benchmarks(FILE)) == 2


def test_a_skipped_benchmark_keeps_its_baseline(stored: Project) -> None:
    """Not run is neither stale nor missing."""
    module = stored.path / "test_gated.py"
    module.write_text(
        module.read_text().replace("    pagedkv", "    pytest.skip('not today')\n    pagedkv", 1)
    )
    before = stored.read(FILE)

    result = stored.perf("--pagedkv-update", "--pagedkv-require-baseline")

    assert result.ret == 0
    result.stdout.fnmatch_lines([" 3 skipped: not today"])
    assert stored.read(FILE) == before
