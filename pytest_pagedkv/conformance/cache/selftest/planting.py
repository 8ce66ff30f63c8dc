"""Runs the suite on a cache with a fault."""

from hypothesis import Phase
from hypothesis import settings as Settings  # noqa: N812 - a class

from pytest_pagedkv.conformance import profiles
from pytest_pagedkv.conformance.cache.complexity import OPERATIONS, check_growth
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.search import search
from pytest_pagedkv.conformance.cache.selftest.faults import Fault
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["plant", "quick"]


def quick(profile: str = "pagedkv-dev") -> Settings:
    """Settings of a profile without shrinking: what is found counts, and not how short it is."""
    profiles.register()
    return Settings(Settings.get_profile(profile), phases=[Phase.generate], database=None)


def plant(
    fault: Fault, settings: Settings | None = None, *, seed: int = 0, reached: Reached | None = None
) -> InvariantViolation | None:
    """Look for a fault: by random programs, or by what calls cost if it is a fault of cost.

    Args:
        fault: the fault.
        settings: how long to look; by default as long as the profile pagedkv-dev does, without shrinking.
        seed: of the random programs.
        reached: counts to add to.

    Returns:
        What the suite sees, or None.
    """
    try:
        if fault.invariant == "complexity":
            for operation in OPERATIONS:
                check_growth(fault.adapter_class, operation)
        else:
            search(fault.adapter_class, settings=settings or quick(), seed=seed, reached=reached)
    except InvariantViolation as violation:
        return violation
    return None
