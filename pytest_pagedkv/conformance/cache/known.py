"""Defects that an adapter's author knows about."""

from collections.abc import Sequence
from typing import Any

from pytest_pagedkv.adapter import KnownFailure, KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Program
from pytest_pagedkv.conformance.cache.shrink import run
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["is_known", "replay"]


def is_known(adapter: type[KVCacheAdapter], violation: InvariantViolation) -> bool:
    """The adapter lists this violation. A note about a weakened hash counts with a weakened hash only."""
    operation = violation.call.partition("(")[0]
    weakened = violation.program is not None and _weakens(violation.program.calls)
    return any(
        known.invariant == violation.invariant
        and known.operation in ("", operation)
        and (weakened or not _weakens(known.program))
        for known in adapter.known_failures
    )


def _weakens(calls: Sequence[tuple[Any, ...]]) -> bool:
    return any(call[0] == "weaken_hash" for call in calls)


def replay(adapter: type[KVCacheAdapter], known: KnownFailure) -> InvariantViolation | None:
    """Make the calls that show a known failure; gives the violation, or None if there is none any more."""
    calls = tuple(map(tuple, known.program))
    return run(adapter, Program(known.num_blocks, known.block_size, calls))
