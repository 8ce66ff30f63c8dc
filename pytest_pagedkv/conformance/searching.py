"""How the suites search for a failure, and make the smallest one of it."""

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import find, settings
from hypothesis.errors import Flaky, NoSuchExample
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from pytest_pagedkv.adapter import Adapter
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["effort", "path_of", "run_programs", "search"]

T = TypeVar("T")


def effort(share: float = 1.0, **changes: Any) -> settings:
    """The loaded profile's settings, with a share of its examples; no deadline, as a call may compile."""
    examples = max(1, round(settings().max_examples * share))
    return settings(max_examples=examples, deadline=None, **changes)


def path_of(adapter: type[Adapter]) -> str:
    """An adapter as --pagedkv-adapter writes it."""
    return f"{adapter.__module__}:{adapter.__qualname__}"


def search(check: Callable[[T], None], cases: SearchStrategy[T], key: str, share: float = 1.0) -> None:
    """Look for a case that fails a check, and raise what the smallest one raises.

    While it shrinks, only the invariant that failed first counts, so that the report is about one defect.

    Args:
        check: raises InvariantViolation for a case that fails.
        cases: where cases come from.
        key: names the saved failures; another for each adapter and test.
        share: of the profile's examples.

    Raises:
        InvariantViolation: the smallest failure found.
    """
    seen: list[InvariantViolation] = []

    def fails(case: T) -> bool:
        try:
            check(case)
        except InvariantViolation as violation:
            seen.append(violation)
            return violation.invariant == seen[0].invariant
        return False

    try:
        smallest = find(cases, fails, settings=effort(share), database_key=key.encode())
    except NoSuchExample:
        return
    except Flaky:
        raise seen[-1] from None
    check(smallest)
    raise seen[-1]


def run_programs(
    machine: type[RuleBasedStateMachine], adapter: type[Adapter], share: float, steps: int, **attributes: Any
) -> None:
    """Run random programs of a machine against an adapter.

    The machine gets a class of its own for each adapter: saved failures are kept by the class's name, and one
    adapter's success would delete another's failure.

    Args:
        machine: the rules; they find the adapter in `self.adapter`.
        adapter: what is tested.
        share: of the profile's examples.
        steps: the longest program.
        attributes: further class attributes; they are part of the name.
    """
    told = "_".join(str(value) for value in attributes.values())
    name = f"{machine.__name__}_{path_of(adapter)}_{told}"
    own = type(name, (machine,), {"__qualname__": name, "adapter": adapter, **attributes})
    run_state_machine_as_test(own, settings=effort(share, stateful_step_count=steps))
