"""What the suites for kernels, schedulers and offload tiers share: reports, known failures, skips."""

import importlib
import inspect
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from pytest_pagedkv.adapter import KnownFailure
from pytest_pagedkv.conformance.offload.suite import OffloadConformance
from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance
from pytest_pagedkv.conformance.violation import InvariantViolation
from tests.conformance.offload.faults import LoadsHalf
from tests.conformance.planting import Fault
from tests.conformance.scheduler.faults import FAULTS as SCHEDULERS
from tests.conformance.scheduler.faults import AbortsAnything
from tests.conformance.scheduler.reference import ReferenceScheduler

NOTE = KnownFailure("documented-errors", "an unknown abort is accepted", (("abort", 5),), "abort")


class Excused(AbortsAnything):
    """Accepts the abort of what it does not know, and says so."""

    known_failures: ClassVar = (NOTE,)


class ExcusedForNothing(ReferenceScheduler):
    """Says so, and does not."""

    known_failures: ClassVar = (NOTE,)


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Any:
    """A search without what earlier runs found, which ends where it finds something."""
    before = settings.get_current_profile_name()
    settings.register_profile("fresh", settings(), database=None, max_examples=getattr(request, "param", 200))
    settings.load_profile("fresh")
    yield
    settings.load_profile(before)


def replay_of(violation: InvariantViolation) -> Any:
    """The test function that a report prints."""
    module: dict[str, Any] = {}
    exec(dict(violation.sections)["replay"], module)  # noqa: S102 - as one who pastes it does
    return next(value for name, value in module.items() if name.startswith("test_"))


def broken_by(run: Any, *arguments: object, **named: object) -> InvariantViolation:
    """The violation that a test ends with."""
    with pytest.raises(InvariantViolation) as failure:
        run(*arguments, **named)
    return failure.value


def check_report(violation: InvariantViolation, tmp_path: Path) -> None:
    """The report names adapter and call, and its replay breaks the same invariant."""
    replay = replay_of(violation)
    again = broken_by(replay, **{"tmp_path": tmp_path} if inspect.signature(replay).parameters else {})
    assert again.invariant == violation.invariant
    assert violation.adapter in str(violation)
    assert violation.call


@pytest.mark.parametrize(
    "name", ["LeaksOnAbort", pytest.param("ComputesChunksTwice", marks=pytest.mark.heavy), "SmallestFirst"]
)
def test_scheduler_report(name: str, fresh: None, tmp_path: Path) -> None:
    """A scheduler's shortest program can be pasted."""
    [fault] = [fault for fault in SCHEDULERS if fault.adapter.__name__ == name]
    check_report(broken_by(fault.run), tmp_path)


def test_offload_report(fresh: None, tmp_path: Path) -> None:
    """A tier's shortest program can be pasted."""
    fault = Fault(OffloadConformance, LoadsHalf, "bytes-equal", ("test_random_programs",), {})
    check_report(broken_by(fault.run), tmp_path)


@pytest.mark.parametrize("name", ["SeesTheNextToken", "WritesSlotMinusOne", "CopiesKeysOnly"])
def test_kernel_report(name: str, fresh: None, tmp_path: Path) -> None:
    """A kernel's smallest case can be pasted."""
    pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")
    from tests.conformance.kernels.faults import FAULTS

    [fault] = [fault for fault in FAULTS if fault.adapter.__name__ == name]
    check_report(broken_by(fault.run), tmp_path)


@pytest.mark.parametrize("fresh", [40], indirect=True)
def test_a_known_failure_is_passed_over(fresh: None) -> None:
    """The search goes on past it, and its program is run."""
    SchedulerConformance().test_random_programs(Excused)
    SchedulerConformance().test_known_failures(Excused)


def test_a_known_failure_that_is_gone_fails() -> None:
    """The note has to go when the defect does."""
    with pytest.raises(pytest.fail.Exception, match="an unknown abort is accepted"):
        SchedulerConformance().test_known_failures(ExcusedForNothing)


def test_without_torch_kernels_skip(pytester: pytest.Pytester) -> None:
    """With a reason, and without an error."""
    pytester.makepyfile(
        test_mine="""
        import sys
        sys.modules["torch"] = None

        from pytest_pagedkv.conformance import KernelConformance
        from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter, KernelFeature

        class Mine(KernelAdapter):
            features = KernelFeature.PAGED_DECODE

        class TestMine(KernelConformance):
            adapter = Mine
        """
    )

    result = pytester.runpytest_subprocess("-rs", "-k", "decode or DECODE")

    assert result.ret == 0
    assert "passed" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*torch is not installed*"])


def test_a_scheduler_is_tested_from_the_command_line(pytester: pytest.Pytester) -> None:
    """The option names a scheduler, and its suite runs; no other does."""
    pytester.makepyfile(mine="from tests.conformance.scheduler.reference import ReferenceScheduler as Mine")
    root = Path(__file__).parents[2]

    result = pytester.runpytest_subprocess(
        "--pagedkv-adapter=mine:Mine",
        "-v",
        "-k",
        "tiny",
        f"-o=pythonpath={root}",
        "--pyargs",
        "pytest_pagedkv.conformance",
    )

    result.stdout.fnmatch_lines(["*TestScheduler::test_tiny_pool PASSED*"])


@pytest.mark.parametrize("kind", ["kernels", "scheduler", "offload"])
def test_every_invariant_is_documented(kind: str) -> None:
    """The documentation has each name with its statement."""
    invariants = importlib.import_module(f"pytest_pagedkv.conformance.{kind}.invariants").INVARIANTS
    text = (Path(__file__).parents[2] / "docs" / "conformance_other_contracts.md").read_text()
    assert [name for name, told in invariants.items() if f"| {name} | {told} |" not in text] == []
