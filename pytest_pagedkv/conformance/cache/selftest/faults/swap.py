"""Faults in giving up blocks for a while."""

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["SWAP"]

SWAP = Kind("swap")


@SWAP.breaks("table-length")
class SwapInForgetsBlock(ReferenceCache):
    """A sequence comes back without its last block."""

    def swap_in(self, seq_id: int) -> Placement:
        placement = super().swap_in(seq_id)
        self._drop(self._live(seq_id).table.pop())
        return placement


@SWAP.breaks("table-length")
class SwapOutKeepsTable(ReferenceCache):
    """A swapped sequence shows the blocks that it gave up."""

    def swap_out(self, seq_id: int) -> None:
        table = self._resident(seq_id).table
        super().swap_out(seq_id)
        self._live(seq_id).table = table


@SWAP.breaks("conservation")
class SwapOutLeaks(ReferenceCache):
    """The blocks of a swapped sequence go nowhere."""

    def swap_out(self, seq_id: int) -> None:
        num_blocks = len(self._num_owners)
        super().swap_out(seq_id)
        for _ in range(num_blocks - len(self._num_owners)):
            self._next_block()


@SWAP.breaks("ref-counts")
class SwapOutKeepsReferences(ReferenceCache):
    """The blocks of a swapped sequence stay in use."""

    def swap_out(self, seq_id: int) -> None:
        self._acquire(self._resident(seq_id).table)
        super().swap_out(seq_id)


@SWAP.breaks("no-alias")
class SwapOutFreesShared(ReferenceCache):
    """Swapping out one of two owners frees what they share."""

    def swap_out(self, seq_id: int) -> None:
        table = self._resident(seq_id).table
        super().swap_out(seq_id)
        for block in self._num_owners.keys() & table:
            self._retire(block)


@SWAP.breaks("hit-soundness", like="TensorRT-LLM #8813, #9056: another prompt's tokens")
class SwapInCountsAsCached(ReferenceCache):
    """What is swapped in is said to be in its blocks before anything was loaded."""

    def swap_in(self, seq_id: int) -> Placement:
        super().swap_in(seq_id)
        return Placement(len(self._live(seq_id).tokens))
