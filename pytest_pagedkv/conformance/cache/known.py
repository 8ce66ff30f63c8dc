"""Defects that an adapter's author knows about."""

from collections.abc import Sequence
from typing import Any

from pytest_pagedkv.adapter import KnownFailure, KVCacheAdapter
from pytest_pagedkv.conformance.cache.calls import Program
from pytest_pagedkv.conformance.cache.running import run
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["is_known", "replay"]


_CONTENT = ("hit-soundness", "no-alias", "shadow")


def is_known(adapter: type[KVCacheAdapter], violation: InvariantViolation) -> bool:
    """The adapter lists this violation.

    A note about a weakened hash counts with a weakened hash only. One about what refused calls leave behind
    does not excuse that a sequence finds another's KV.
    """
    weakened = violation.program is not None and _weakens(violation.program.calls)
    if violation.symptom in _CONTENT and violation.invariant in ("atomic-failure", "documented-errors"):
        return False
    return any(
        known.invariant == violation.invariant
        and known.operation in ("", violation.operation)
        and (weakened or not _weakens(known.program))
        for known in adapter.known_failures
    )


def _weakens(calls: Sequence[tuple[Any, ...]]) -> bool:
    return any(call[0] == "weaken_hash" for call in calls)


def replay(
    adapter: type[KVCacheAdapter], known: KnownFailure, watch: Watch | None = None
) -> InvariantViolation | None:
    """Make the calls that show a known failure; gives the violation, or None if there is none any more."""
    calls = tuple(map(tuple, known.program))
    return run(adapter, Program(known.num_blocks, known.block_size, calls), watch)
