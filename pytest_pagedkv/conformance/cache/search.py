"""Runs random programs against an adapter."""

from hypothesis import HealthCheck, Phase
from hypothesis import settings as Settings  # noqa: N812 - a class
from hypothesis.stateful import run_state_machine_as_test

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.machine import GaveUp
from pytest_pagedkv.conformance.cache.making import check_class
from pytest_pagedkv.conformance.cache.provoking import ProvokingMachine
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.shrink import shrink
from pytest_pagedkv.conformance.cache.watch import Watch
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["CALL_LIMIT_S", "search"]

CALL_LIMIT_S = 10.0
"""How long a call may take."""


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
    watch = Watch(call_limit_s)
    name = f"{adapter.__module__}.{adapter.__qualname__}{'' if hash_bits is None else f'_{hash_bits}_bits'}"
    if seed is not None:
        name += f"_seed_{seed}"
        settings = Settings(settings, derandomize=True, database=None)
    attributes = {
        "adapter": adapter,
        "reached": reached,
        "watch": watch,
        "hash_bits": hash_bits,
        "__qualname__": name,
    }
    machine = type(name, (ProvokingMachine,), attributes)
    try:
        with watch.running():
            run_state_machine_as_test(machine, settings=_without_shrinking(settings))
    except GaveUp as gave_up:
        raise gave_up.violation from None
    except InvariantViolation as violation:
        if violation.program is None or Phase.shrink not in (settings or Settings()).phases:
            raise
        smallest = shrink(adapter, violation)
        raise smallest from smallest.__cause__
    return reached


def _without_shrinking(settings: Settings | None) -> Settings:
    """Hypothesis finds the program, and `shrink` makes it short."""
    settings = settings or Settings()
    phases = [phase for phase in settings.phases if phase not in (Phase.shrink, Phase.explain)]
    return Settings(
        settings,
        deadline=None,
        report_multiple_bugs=False,
        phases=phases,
        suppress_health_check=list(HealthCheck),  # how fast an engine is is not the question
    )
