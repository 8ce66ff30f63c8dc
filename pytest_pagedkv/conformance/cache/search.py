"""Runs random programs against an adapter."""

from collections.abc import Iterator

from hypothesis import HealthCheck, Phase
from hypothesis import settings as Settings  # noqa: N812 - a class
from hypothesis.stateful import run_state_machine_as_test

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.machine import CacheMachine, GaveUp
from pytest_pagedkv.conformance.cache.making import check_class
from pytest_pagedkv.conformance.cache.provoking import ProvokingMachine
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.shrink import shrink
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["CALL_LIMIT_S", "search"]

CALL_LIMIT_S = 10.0
"""How long a call may take."""

_MOST_EXAMPLES = 1000


def search(
    adapter: type[KVCacheAdapter],
    *,
    settings: Settings | None = None,
    seed: int | None = None,
    hash_bits: int | None = None,
    call_limit_s: float = CALL_LIMIT_S,
    reached: Reached | None = None,
) -> Reached:
    """Look for a program that breaks an invariant, and shrink it.

    Args:
        adapter: the class under test. It gives the machine its name, and so has its own entries in
            Hypothesis' example database.
        settings: Hypothesis' settings; the current profile's by default. There is no deadline in any case.
        seed: makes the search the same each time.
        hash_bits: weaken the engine's hash to so many bits.
        call_limit_s: how long a call may take.
        reached: counts to add to.

    Returns:
        What was done.

    Raises:
        InvariantViolation: with the shortest program found.
    """
    check_class(adapter)
    reached = Reached() if reached is None else reached
    settings = settings or Settings()
    watch = Watch(call_limit_s)
    try:
        with watch.running():
            for number, part in enumerate(_parts(settings, seed)):
                machine = _machine(adapter, hash_bits, seed, number)
                machine.reached, machine.watch = reached, watch
                run_state_machine_as_test(machine, settings=part)
    except GaveUp as gave_up:
        raise gave_up.violation from None
    except InvariantViolation as violation:
        if Phase.shrink not in settings.phases:
            raise
        with watch.running():
            smallest = shrink(adapter, violation, watch)
        raise smallest from smallest.__cause__
    return reached


def _machine(
    adapter: type[KVCacheAdapter], hash_bits: int | None, seed: int | None, number: int
) -> type[CacheMachine]:
    """A machine with a name of its own. Saved failures, and what a seed leads to, belong to the name."""
    name = f"{adapter.__module__}.{adapter.__qualname__}"
    name += "" if hash_bits is None else f"_{hash_bits}_bits"
    name += "" if seed is None else f"_seed_{seed}"
    name += f"_part_{number}" if number else ""
    attributes = {"adapter": adapter, "hash_bits": hash_bits, "__qualname__": name}
    return type(name, (ProvokingMachine,), attributes)


def _parts(settings: Settings, seed: int | None) -> Iterator[Settings]:
    """The search in parts: Hypothesis remembers every program of a run, some hundred kilobytes each."""
    left = settings.max_examples
    while left > 0:
        part = Settings(_without_shrinking(settings), max_examples=min(left, _MOST_EXAMPLES))
        yield part if seed is None else Settings(part, derandomize=True, database=None)
        left -= _MOST_EXAMPLES


def _without_shrinking(settings: Settings) -> Settings:
    """Hypothesis finds the program, and `shrink` makes it short."""
    phases = [phase for phase in settings.phases if phase not in (Phase.shrink, Phase.explain)]
    return Settings(
        settings,
        deadline=None,
        report_multiple_bugs=False,
        phases=phases,
        suppress_health_check=list(HealthCheck),  # how fast an engine is is not the question
    )
