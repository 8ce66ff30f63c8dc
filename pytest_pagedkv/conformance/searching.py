"""How the suites search for a failure, and make the smallest one of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import Phase, find, settings
from hypothesis.errors import Flaky, NoSuchExample
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from pytest_pagedkv.adapter import Adapter, KnownFailure
from pytest_pagedkv.conformance.violation import Hung, InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = [
    "ProgramMachine",
    "check_known",
    "effort",
    "is_known",
    "path_of",
    "reporting",
    "run_programs",
    "search",
]

T = TypeVar("T")


def effort(share: float = 1.0, **changes: Any) -> settings:
    """The loaded profile's settings, with a share of its examples.

    There is no deadline, as a call may compile; and no phase that explains, as our reports do.
    """
    loaded = settings()
    examples = max(1, round(loaded.max_examples * share))
    phases = [phase for phase in loaded.phases if phase is not Phase.explain]
    return settings(max_examples=examples, deadline=None, phases=phases, **changes)


def path_of(adapter: type[Adapter]) -> str:
    """An adapter as --pagedkv-adapter writes it."""
    return f"{adapter.__module__}:{adapter.__qualname__}"


def is_known(adapter: type[Adapter], violation: InvariantViolation) -> bool:
    """Whether the adapter lists a violation."""
    return any(
        known.invariant == violation.invariant and known.operation in ("", violation.operation)
        for known in adapter.known_failures
    )


@contextmanager
def reporting(adapter: type[Adapter]) -> Iterator[None]:
    """A violation leaves with what it says and where a foreign error came from; a known one is expected."""
    __tracebackhide__ = True
    try:
        yield
    except InvariantViolation as violation:
        if is_known(adapter, violation):
            pytest.xfail(f"known: {violation.invariant}: {violation.detail}")
        violation.__notes__ = []  # Hypothesis' program is the one of the replay
        raise violation.with_traceback(None) from violation.__cause__


def check_known(adapter: type[Adapter], run: Callable[[KnownFailure], None]) -> None:
    """Check that each known failure is still there.

    Args:
        adapter: whose failures.
        run: runs the program of one.

    Raises:
        pytest.fail.Exception: one is not there.
    """
    listed = [known for known in adapter.known_failures if known.program]
    if not listed:
        pytest.skip(f"{adapter.__name__} has no known failures")
    for known in listed:
        try:
            run(known)
        except InvariantViolation as violation:
            if violation.invariant == known.invariant:
                continue
            raise
        pytest.fail(
            f"the known failure {known.invariant!r} of {adapter.__name__} is not there. Take it out of "
            f"known_failures, or mend its program.\n{known.reason}",
            pytrace=False,
        )


def search(
    check: Callable[[T], None],
    cases: SearchStrategy[T],
    adapter: type[Adapter],
    test: str,
    share: float = 1.0,
) -> None:
    """Look for a case that fails a check, and raise what the smallest one raises.

    While it shrinks, only the invariant that failed first counts, so that the report is about one defect.

    Args:
        check: raises InvariantViolation for a case that fails.
        cases: where cases come from.
        adapter: what is tested; with the test, it names the saved failures.
        test: what the search is for.
        share: of the profile's examples.

    Raises:
        InvariantViolation: the smallest failure found.
    """
    seen: list[InvariantViolation] = []

    def fails(case: T) -> bool:
        try:
            check(case)
        except InvariantViolation as violation:
            if is_known(adapter, violation):
                return False
            seen.append(violation)
            return violation.invariant == seen[0].invariant
        return False

    try:
        smallest = find(
            cases, fails, settings=effort(share), database_key=f"{path_of(adapter)}/{test}".encode()
        )
    except NoSuchExample:
        return
    except Flaky:  # it failed once, and not when it was tried again
        raise seen[0] from None
    check(smallest)
    raise seen[0]  # the smallest one passes now


class _GaveUp(BaseException):
    """A call hung. Not an `Exception`: Hypothesis would shrink the program by waiting again and again."""

    def __init__(self, hung: Hung) -> None:
        super().__init__()
        self.hung = hung


class ProgramMachine(RuleBasedStateMachine):
    """Rules that make calls on a checked component. While a program shrinks, only the first invariant counts.

    Attributes:
        adapter: the class under test.
        watch: the time limit for its calls.
        seen: the violations of this run, the first one first.
        is_over: something is broken: what follows says nothing.
    """

    adapter: ClassVar[type[Any]]
    watch: ClassVar[Watch]
    seen: ClassVar[list[InvariantViolation]]

    is_over = False

    @precondition(lambda machine: machine.is_over)
    @rule()
    def rest(self) -> None:
        """Do nothing more."""

    def run(self, operation: Callable[..., T], *args: Any) -> T | None:
        """Run an operation of the component, unless the program is over."""
        if self.is_over:
            return None
        try:
            return operation(*args)
        except Hung as hung:
            self.is_over = True
            raise _GaveUp(hung) from None
        except InvariantViolation as violation:
            self.is_over = True
            if is_known(self.adapter, violation):
                return None
            self.seen.append(violation)
            if violation.invariant == self.seen[0].invariant:
                raise
        return None


def run_programs(
    machine: type[ProgramMachine], adapter: type[Adapter], watch: Watch, share: float, **attributes: Any
) -> None:
    """Run random programs of a machine against an adapter.

    The machine gets a class of its own for each adapter: saved failures are kept by the class's name, and one
    adapter's success would delete another's failure.

    Args:
        machine: the rules.
        adapter: what is tested.
        watch: the time limit for its calls.
        share: of the profile's examples.
        attributes: further class attributes; they are part of the name.

    Raises:
        InvariantViolation: with the shortest program found.
    """
    name = "_".join([machine.__name__, path_of(adapter), *map(str, attributes.values())])
    seen: list[InvariantViolation] = []
    own = {"__qualname__": name, "adapter": adapter, "watch": watch, "seen": seen}
    factory = type(name, (machine,), {**own, **attributes})
    try:
        with watch.running():
            run_state_machine_as_test(factory, settings=effort(share, report_multiple_bugs=False))
    except _GaveUp as gave_up:
        raise gave_up.hung from None
    except Flaky:  # threads took another turn the second time
        raise seen[0] from None
