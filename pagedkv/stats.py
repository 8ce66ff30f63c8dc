"""Stats fold events into numbers."""

from collections import Counter
from functools import singledispatchmethod

from pagedkv import events as ev

__all__ = ["Counters"]


class Counters:
    """A sink that folds events into exact, machine-independent integers.

    Attach it to `BlockManager.events` or `BlockPool.events`, run something, read `as_dict()`.
    A counter that never moved is absent.
    """

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._fold(event)

    def as_dict(self) -> dict[str, int]:
        """The counters by name, sorted."""
        return {name: value for name, value in sorted(self._totals.items()) if value}

    def _peak(self, name: str, value: int) -> None:
        if value > self._totals[name]:
            self._totals[name] = value

    @singledispatchmethod
    def _fold(self, event: ev.Event) -> None:
        """An event of a kind that this class does not count is ignored."""

    @_fold.register
    def _(self, e: ev.BlocksAllocated) -> None:
        self._totals["blocks_allocated"] += e.num_blocks
        self._totals["evictions"] += e.num_evicted
        self._peak("blocks_peak", e.pool_size - e.num_free)

    @_fold.register
    def _(self, e: ev.BlocksFreed) -> None:
        self._totals["blocks_freed"] += e.num_blocks

    @_fold.register
    def _(self, e: ev.BlocksShared) -> None:
        self._totals["blocks_shared"] += e.num_blocks
        self._totals["blocks_revived"] += e.num_revived
        self._peak("ref_count_max", e.max_ref_count)
        self._peak("blocks_peak", e.pool_size - e.num_free)

    @_fold.register
    def _(self, _event: ev.AllocationFailed) -> None:
        self._totals["out_of_blocks"] += 1

    @_fold.register
    def _(self, e: ev.BlocksRegistered) -> None:
        self._totals["blocks_registered"] += e.num_blocks

    @_fold.register
    def _(self, e: ev.BlocksUnregistered) -> None:
        self._totals["blocks_unregistered"] += e.num_blocks

    @_fold.register
    def _(self, e: ev.PrefixLookup) -> None:
        self._totals["prefix_lookups"] += 1
        self._totals["lookup_blocks"] += e.num_blocks
        self._totals["hit_blocks"] += e.num_hit_blocks
        self._totals["tokens_reused"] += e.num_hit_tokens

    @_fold.register
    def _(self, e: ev.BlocksCopied) -> None:
        self._totals["fork_copies" if e.at_fork else "cow_copies"] += e.num_blocks

    @_fold.register
    def _(self, e: ev.SequenceAdmitted) -> None:
        self._totals["sequences_admitted"] += 1
        self._totals["tokens_admitted"] += e.num_tokens

    @_fold.register
    def _(self, e: ev.TokensAppended) -> None:
        self._totals["tokens_appended"] += e.num_tokens
        self._totals["shared_writes"] += e.num_shared_writes

    @_fold.register
    def _(self, e: ev.StepBooked) -> None:
        self._totals["steps"] += 1
        self._totals["batch_size_sum"] += e.batch_size
        self._peak("batch_size_max", e.batch_size)

    @_fold.register
    def _(self, _event: ev.SequenceForked) -> None:
        self._totals["sequences_forked"] += 1

    @_fold.register
    def _(self, e: ev.SequenceTruncated) -> None:
        self._totals["tokens_truncated"] += e.num_dropped_tokens

    @_fold.register
    def _(self, _event: ev.SequenceReleased) -> None:
        self._totals["sequences_released"] += 1
