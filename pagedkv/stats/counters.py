"""Counters: events folded into exact integers."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from pagedkv import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Counters"]


class Counters:
    """A sink that folds events into exact, machine-independent integers.

    Attach it to `BlockManager.events` or `BlockPool.events`, run something, read `as_dict()`.
    A counter that never moved is absent.
    """

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()
        self._folds: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.BlocksAllocated: self._allocated,
            ev.BlocksFreed: self._freed,
            ev.BlocksShared: self._shared,
            ev.AllocationFailed: self._failed,
            ev.BlocksRegistered: self._registered,
            ev.BlocksUnregistered: self._unregistered,
            ev.PrefixLookup: self._looked_up,
            ev.BlocksCopied: self._copied,
            ev.SequenceAdmitted: self._admitted,
            ev.TokensAppended: self._appended,
            ev.StepBooked: self._stepped,
            ev.SequenceForked: self._forked,
            ev.SequenceTruncated: self._truncated,
            ev.SequenceReleased: self._released,
        }

    def __call__(self, event: ev.Event) -> None:
        """Fold one event; kinds that this class does not count are ignored."""
        if (fold := self._folds.get(type(event))) is not None:
            fold(event)

    def as_dict(self) -> dict[str, int]:
        """The counters by name, sorted."""
        return {name: value for name, value in sorted(self._totals.items()) if value}

    def _peak(self, name: str, value: int) -> None:
        if value > self._totals[name]:
            self._totals[name] = value

    def _allocated(self, e: ev.BlocksAllocated) -> None:
        self._totals["blocks_allocated"] += e.num_blocks
        self._totals["evictions"] += e.num_evicted
        self._peak("blocks_peak", e.pool_size - e.num_free)

    def _freed(self, e: ev.BlocksFreed) -> None:
        self._totals["blocks_freed"] += e.num_blocks

    def _shared(self, e: ev.BlocksShared) -> None:
        self._totals["blocks_shared"] += e.num_blocks
        self._totals["blocks_revived"] += e.num_revived
        self._peak("ref_count_max", e.max_ref_count)
        self._peak("blocks_peak", e.pool_size - e.num_free)

    def _failed(self, _event: ev.AllocationFailed) -> None:
        self._totals["out_of_blocks"] += 1

    def _registered(self, e: ev.BlocksRegistered) -> None:
        self._totals["blocks_registered"] += e.num_blocks

    def _unregistered(self, e: ev.BlocksUnregistered) -> None:
        self._totals["blocks_unregistered"] += e.num_blocks

    def _looked_up(self, e: ev.PrefixLookup) -> None:
        self._totals["prefix_lookups"] += 1
        self._totals["lookup_blocks"] += e.num_blocks
        self._totals["hit_blocks"] += e.num_hit_blocks
        self._totals["tokens_reused"] += e.num_hit_tokens

    def _copied(self, e: ev.BlocksCopied) -> None:
        self._totals["fork_copies" if e.at_fork else "cow_copies"] += e.num_blocks

    def _admitted(self, e: ev.SequenceAdmitted) -> None:
        self._totals["sequences_admitted"] += 1
        self._totals["tokens_admitted"] += e.num_tokens

    def _appended(self, e: ev.TokensAppended) -> None:
        self._totals["tokens_appended"] += e.num_tokens
        self._totals["shared_writes"] += e.num_shared_writes

    def _stepped(self, e: ev.StepBooked) -> None:
        self._totals["steps"] += 1
        self._totals["batch_size_sum"] += e.batch_size
        self._peak("batch_size_max", e.batch_size)

    def _forked(self, _event: ev.SequenceForked) -> None:
        self._totals["sequences_forked"] += 1

    def _truncated(self, e: ev.SequenceTruncated) -> None:
        self._totals["tokens_truncated"] += e.num_dropped_tokens

    def _released(self, _event: ev.SequenceReleased) -> None:
        self._totals["sequences_released"] += 1
