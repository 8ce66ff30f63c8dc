"""Faults in what a call costs: sound answers, by way of the whole pool."""

from collections.abc import Sequence

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache, SequenceState

__all__ = ["COMPLEXITY"]

COMPLEXITY = Kind("complexity")


@COMPLEXITY.breaks("complexity")
class FreeCountWalksPool(ReferenceCache):
    """The free count looks at every block."""

    def num_free_blocks(self) -> int:
        return sum(block not in self._num_owners for block in range(self.num_blocks))


@COMPLEXITY.breaks("complexity")
class ReleaseChecksFreeList(ReferenceCache):
    """A release looks through all free blocks for one that is there twice."""

    def release(self, seq_id: int) -> None:
        super().release(seq_id)
        if len({*self._blank, *self._idle}) < self.num_free_blocks():
            raise RuntimeError("a block is in the free list twice")


@COMPLEXITY.breaks("complexity", like="vLLM PR #7209: 7 ms, and 0.013 ms without")
class EvictionSearchesPool(ReferenceCache):
    """An eviction goes through all evictable blocks for the oldest."""

    def _evict(self) -> int:
        stamps = {block: stamp for stamp, block in enumerate(self._idle)}
        self._idle.move_to_end(min(stamps, key=stamps.__getitem__), last=False)
        return super()._evict()


@COMPLEXITY.breaks("complexity", like="nano-vllm: 370 ms to admit a prompt again")
class HitSearchesFreeList(ReferenceCache):
    """A hit looks for its block in a list of all idle ones."""

    def _acquire(self, blocks: Sequence[int]) -> None:
        super()._acquire([block for block in blocks if block in list(self._idle) or True])


@COMPLEXITY.breaks("complexity")
class AppendChecksBooks(ReferenceCache):
    """An append counts owners and free blocks, to be sure."""

    def _copies_tail(self, sequence: SequenceState) -> bool:
        free = set(self._blank) | set(self._idle)
        return super()._copies_tail(sequence) and sequence.table[-1] not in free


@COMPLEXITY.breaks("complexity")
class AdmitListsFreeBlocks(ReferenceCache):
    """A request makes a list of all free blocks to choose from."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        free = [*self._blank, *self._idle]
        placement = super().admit(seq_id, token_ids, namespace)
        del free[: len(self.block_table(seq_id))]
        return placement
