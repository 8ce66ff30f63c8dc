"""Faults in who owns a block, and when it has no owner left."""

from collections.abc import Mapping, Sequence

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache, SequenceState

__all__ = ["REF_COUNTS"]

REF_COUNTS = Kind("ref counts")


@REF_COUNTS.breaks("ref-counts", like="vLLM #1556, PR #3347: occurrences are counted, not owners")
class ForkCountsOccurrences(ReferenceCache):
    """A fork adds to a block as many owners as it has, and not one."""

    def _child_of(self, parent: SequenceState) -> SequenceState:
        child = super()._child_of(parent)
        for block in parent.table:
            self._num_owners[block] = 2 * (self._num_owners[block] - 1)
        return child


@REF_COUNTS.breaks("ref-counts")
class ForkCountsNothing(ReferenceCache):
    """A child owns none of the blocks in its table."""

    def _child_of(self, parent: SequenceState) -> SequenceState:
        return SequenceState(parent.namespace, list(parent.tokens), list(parent.table), parent.is_cacheable)


@REF_COUNTS.breaks("ref-counts")
class ForkSkipsTail(ReferenceCache):
    """A child owns the full blocks, and not the partly filled one that it shares too."""

    def _child_of(self, parent: SequenceState) -> SequenceState:
        child = super()._child_of(parent)
        if self._has_partial_tail(parent):
            self._num_owners[parent.table[-1]] -= 1
        return child


@REF_COUNTS.breaks("ref-counts")
class CopyKeepsOwner(ReferenceCache):
    """Who gets a copy of a shared block stays an owner of the original."""

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        source, destination = super()._copy_tail(sequence)
        self._acquire([source])
        return source, destination


@REF_COUNTS.breaks("ref-counts", like="LMCache #3884, #2017: pins that leak")
class HitCountedTwice(ReferenceCache):
    """A request that hits a block becomes its owner twice."""

    def _claim(self, hits: list[int], num_new: int) -> list[int]:
        self._acquire(hits)
        return super()._claim(hits, num_new)


@REF_COUNTS.breaks("ref-counts")
class CountSaturates(ReferenceCache):
    """The count of owners ends at two, so that the third is forgotten."""

    def _acquire(self, blocks: Sequence[int]) -> None:
        super()._acquire(blocks)
        for block in blocks:
            self._num_owners[block] = min(self._num_owners[block], 2)


@REF_COUNTS.breaks("ref-counts")
class IdleBlockHasOwner(ReferenceCache):
    """Blocks that are only cached are shown with an owner, the cache."""

    def ref_counts(self) -> Mapping[int, int]:
        return dict(super().ref_counts()) | dict.fromkeys(self._idle, 1)


@REF_COUNTS.breaks("ref-counts")
class HitNotReferenced(ReferenceCache):
    """A hit on an idle block takes it from the free list, and counts nobody as its owner."""

    def _claim(self, hits: list[int], num_new: int) -> list[int]:
        table = super()._claim(hits, num_new)
        for block in hits:
            self._num_owners[block] -= 1
        return table


@REF_COUNTS.breaks("no-alias", like="mini-sglang PR #142, SGLang #12224: freed while a table still names it")
class FreedByFirstOwner(ReferenceCache):
    """The first owner to go frees a shared block."""

    def _drop(self, block: int) -> None:
        super()._drop(block)
        if block in self._num_owners:
            self._retire(block)


@REF_COUNTS.breaks("no-alias")
class HitStaysEvictable(ReferenceCache):
    """A block that is hit is not taken from the list of evictable ones."""

    def _acquire(self, blocks: Sequence[int]) -> None:
        idle = [block for block in blocks if block in self._idle]
        super()._acquire(blocks)
        self._idle.update(dict.fromkeys(idle))


@REF_COUNTS.breaks(
    "unique-free",
    like="vLLM #42571; transformers 5.23: the pool accepts it, and gives one block to two owners",
)
class ReleaseListsBlockTwice(ReferenceCache):
    """One release names a block twice, in the place of another."""

    def _give_back(self, blocks: Sequence[int]) -> None:
        num_blank = len(self._blank)
        super()._give_back(blocks)
        if len(self._blank) > num_blank + 1:
            self._blank[-1] = self._blank[-2]


@REF_COUNTS.breaks("unique-free", like="SGLang #12224: freed by two paths")
class FreedTwice(ReferenceCache):
    """A blank block comes back to the free list twice."""

    def _retire(self, block: int) -> None:
        super()._retire(block)
        if block not in self._idle:
            self._blank.append(block)


@REF_COUNTS.breaks("conservation", like="vLLM #46283, PR #29987, #27073: blocks of cancelled requests")
class CancelLeaks(ReferenceCache):
    """A sequence that is released before its first append leaves a block behind."""

    _started: frozenset[int] = frozenset()

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        self._started |= {seq_id}
        return super().append(seq_id, token_ids)

    def release(self, seq_id: int) -> None:
        super().release(seq_id)
        if seq_id not in self._started and self.num_free_blocks():
            self._next_block()
        self._started -= {seq_id}
