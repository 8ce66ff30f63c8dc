"""Defects that an adapter's author knows about."""

from pytest_pagedkv.adapter import KnownFailure, KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Program
from pytest_pagedkv.conformance.cache.shrink import run
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["is_known", "replay"]


def is_known(adapter: type[KVCacheAdapter], violation: InvariantViolation) -> bool:
    """The adapter lists this violation."""
    operation = violation.call.partition("(")[0]
    return any(
        known.invariant == violation.invariant and known.operation in ("", operation)
        for known in adapter.known_failures
    )


def replay(adapter: type[KVCacheAdapter], known: KnownFailure) -> InvariantViolation | None:
    """Make the calls that show a known failure; gives the violation, or None if there is none any more."""
    calls = tuple(map(tuple, known.program))
    return run(adapter, Program(known.num_blocks, known.block_size, calls))
