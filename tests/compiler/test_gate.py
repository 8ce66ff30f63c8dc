"""The gate on compiled kernels, as a repository uses it."""

import re

import pytest

from tests.compiler.conftest import KernelProject

NAMES = ["scale_rows-1024", "scale_rows-2048"]
KEYS = [f"test_kernels.py::test_compiled[{name}-sm_90]" for name in NAMES]
HUNGRY = ("return values * 2", "return values * 2 + tl.cumsum(values, 0)")


def _told(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


@pytest.fixture(scope="module")
def first_run() -> dict[str, str]:
    """The files that the first run left: the others need not compile what it compiled."""
    return {}


@pytest.fixture
def stored(kernels: KernelProject, first_run: dict[str, str]) -> KernelProject:
    """One whose kernels are stored."""
    if not first_run:
        assert kernels.perf("--pagedkv-update").ret == 0
        folders = (kernels.path / "perf_baselines", kernels.path / ".pagedkv-perf" / "compiled")
        files = [file for folder in folders for file in folder.rglob("*.json")]
        first_run |= {str(file.relative_to(kernels.path)): file.read_text() for file in files}
    for name, text in first_run.items():
        kernels.write(name, text)
    return kernels


def test_without_the_option_nothing_is_compiled(kernels: KernelProject) -> None:
    """Not even listed: there is one test, which is skipped."""
    result = kernels.run("-rs", "-v")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*test_kernels.py::test_compiled SKIPPED*", "*runs with --pagedkv-perf"])


def test_new_kernels_are_told_and_stored(kernels: KernelProject) -> None:
    """Each has a line, with the command that accepts all; the next run compiles nothing."""
    new = kernels.perf()
    stored = kernels.perf("--pagedkv-update=kernels")
    same = kernels.perf("--pagedkv-require-baseline")

    assert (new.ret, stored.ret, same.ret) == (0, 0, 0)
    assert all(f" new   {key}   15 counters" in _told(new) for key in KEYS)
    assert "cp -r .pagedkv-perf/candidates/kernels perf_baselines/" in _told(new)
    assert f"stored in perf_baselines/kernels/{kernels.baseline.name}" in _told(stored)
    assert list(kernels.stored()) == NAMES
    assert " 2 unchanged" in _told(same)
    assert re.search(r"2 kernels, Triton [\d.]+: compiling \.\.\. in \d+ s, 2 of them before", _told(same))
    measured = kernels.benchmarks(".pagedkv-perf/run.json")[KEYS[0]]
    assert measured["toolchain"] == kernels.toolchain
    assert measured["counters"] == measured["baseline"] == kernels.stored()[NAMES[0]]["counters"]


def test_a_hungry_line_fails_with_both_figures(stored: KernelProject) -> None:
    """In a function that the kernel calls. One kernel is accepted, then the other, and then all is well."""
    before = stored.stored()
    stored.change(*HUNGRY)

    worse = stored.perf()
    accepted = stored.perf(f"--pagedkv-accept={KEYS[0]}", "--pagedkv-reason=prefix sums are wanted")
    updated = stored.perf("--pagedkv-update")

    assert (worse.ret, accepted.ret, updated.ret) == (10, 10, 0)
    figures = re.findall(
        r"FAIL  (\S+)\s+(instructions \d+ -> \d+ \(worse\), registers \d+ -> \d+ \(worse\))", _told(worse)
    )
    assert [key for key, _ in figures] == KEYS
    assert f"(baseline: perf_baselines/kernels/{stored.baseline.name})" in _told(worse)
    accepted.assert_outcomes(passed=1, failed=1)
    after = stored.stored()
    assert after[NAMES[0]]["reason"] == "prefix sums are wanted"
    assert after[NAMES[1]]["counters"] != before[NAMES[1]]["counters"]
    assert stored.perf().ret == 0


def test_a_failed_assertion_comes_first(stored: KernelProject) -> None:
    """What a test asks of a kernel is not for acceptance; the stored figures are told besides."""
    stored.change("spill_bytes == 0", "registers < 8", "test_kernels.py")
    stored.change(*HUNGRY)

    result = stored.perf("--pagedkv-update")

    assert result.ret == 1
    shown = ["E*assert * < 8", "*where * = Resources(variant='scale_rows-1024', kernel=*"]
    result.stdout.fnmatch_lines([*shown, "*Captured kernel call*", "registers * -> * (worse)"])


def test_another_toolchain_is_incomparable(stored: KernelProject) -> None:
    """It is neither a pass nor a failure, and the command that records it is told; both files stay."""
    here, other = stored.toolchain, stored.baseline.with_name("sm_90_triton3.1.json")
    stored.baseline.rename(other)

    noted, required = stored.perf(), stored.perf("--pagedkv-require-baseline")
    recorded = stored.perf("--pagedkv-update=kernels")

    assert (noted.ret, required.ret, recorded.ret) == (0, 11, 0)
    noted.stdout.fnmatch_lines(
        [
            f" note  2 kernels not compared: stored for sm_90_triton3.1, and compiled for {here} here",
            " note  record them with: pytest --pagedkv-perf --pagedkv-update=kernels",
            " 2 incomparable",
        ]
    )
    assert other.exists()
    assert stored.stored().keys() == set(NAMES)
    assert stored.perf("--pagedkv-require-baseline").ret == 0


def test_a_missing_line_may_be_required(stored: KernelProject) -> None:
    """A kernel that is new where others are stored is new, or missing."""
    stored.change("(1024, 2048)", "(1024, 2048, 4096)")

    assert stored.perf().ret == 0
    assert stored.perf("--pagedkv-require-baseline").ret == 11


def test_a_kernel_that_is_gone_is_stale(stored: KernelProject) -> None:
    """It is told, and dropped by an update; of a run that selects some nothing is stale."""
    some = stored.perf("-k", "1024")
    stored.change("(1024, 2048)", "(1024,)")

    told, updated = stored.perf(), stored.perf("--pagedkv-update=kernels")

    assert " stale " not in _told(some)
    assert f" stale {KEYS[1]}   its test is gone" in _told(told)
    assert f"{KEYS[1]}   dropped, its test is gone" in _told(updated)
    assert list(stored.stored()) == NAMES[:1]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("tl.arange(0, size)", "tl.arange(0, size + 1)", r"kernel scale_rows: .*must be a power of 2"),
        ("import triton\n", "import nonsense\n", "importing kernels raised .*No module named 'nonsense'"),
        ("SIZES = (1024, 2048)", "SIZES = ()", "provider kernels:shipped has no variant for sm_90"),
    ],
    ids=["kernel", "provider", "empty"],
)
def test_what_cannot_be_compiled_is_an_error(
    stored: KernelProject, before: str, after: str, message: str
) -> None:
    """And nothing that is stored is stale for it, nor dropped."""
    stored.change(before, after)

    result = stored.perf("--pagedkv-update")

    assert result.ret == 1
    assert re.search(message, _told(result), re.DOTALL)
    assert " stale " not in _told(result)
    assert list(stored.stored()) == NAMES


def test_without_triton_the_test_is_skipped(stored: KernelProject) -> None:
    """With the reason; what is stored stays."""
    stored.write("triton.py", "raise ModuleNotFoundError('none', name='triton')")

    result = stored.perf("-rs", "--pagedkv-update")

    assert result.ret == 0
    result.assert_outcomes(skipped=1)
    assert "triton is not installed" in _told(result)
    assert list(stored.stored()) == NAMES


def test_a_broken_file_is_refused(stored: KernelProject) -> None:
    """Before anything is compiled."""
    stored.baseline.write_text("{")

    result = stored.perf()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"perf_baselines/kernels/{stored.baseline.name}:1: not JSON" in _told(result)
    assert "run `pytest --pagedkv-perf --pagedkv-update=kernels`" in _told(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "missing 1 required positional argument"),
        ("1", "provider is 1; it must be a string"),
        ("'kernels:shipped', archs=90", "archs is 90; it must be a tuple of numbers"),
        ("'kernels:shipped', arch=90", "unexpected keyword argument 'arch'"),
    ],
)
def test_a_wrong_marker_is_refused(kernels: KernelProject, arguments: str, message: str) -> None:
    """Also in a run without performance tests."""
    kernels.change('"kernels:shipped", archs=(90,)', arguments, "test_kernels.py")

    assert message in _told(kernels.run())


def test_a_fixture_without_marker_says_what_it_needs(kernels: KernelProject) -> None:
    """The test is marked as a performance test, and has no provider."""
    kernels.change('pagedkv_compiled("kernels:shipped", archs=(90,))', "pagedkv_perf", "test_kernels.py")

    assert 'pagedkv_compiled needs @pytest.mark.pagedkv_compiled("module:function")' in _told(kernels.perf())


def test_under_xdist(stored: KernelProject) -> None:
    """Workers compile what they run; the counting process lists, and names can be accepted."""
    pytest.importorskip("xdist")
    stored.change(*HUNGRY)
    arguments = ("-p", "xdist", "-n1")

    worse = stored.perf(*arguments)
    accepted = stored.perf(*arguments, f"--pagedkv-accept={KEYS[0]}", "--pagedkv-reason=wanted")

    assert (worse.ret, accepted.ret) == (10, 10)
    accepted.assert_outcomes(passed=1, failed=1)
    assert stored.stored()[NAMES[0]]["reason"] == "wanted"
