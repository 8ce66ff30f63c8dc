"""Faults in cutting a sequence back."""

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.bases import TrustingCache
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache, SequenceState

__all__ = ["TRUNCATION"]

TRUNCATION = Kind("truncation")


@TRUNCATION.breaks("table-length")
class CutKeepsOneTooMany(ReferenceCache):
    """One block behind the cut stays in the table."""

    def _num_blocks_kept(self, num_tokens: int) -> int:
        return super()._num_blocks_kept(num_tokens) + 1


@TRUNCATION.breaks("table-length")
class CutFreesOneTooMany(ReferenceCache):
    """The block that is cut goes too, though it still holds tokens."""

    def _num_blocks_kept(self, num_tokens: int) -> int:
        return super()._num_blocks_kept(num_tokens) - 1


@TRUNCATION.breaks("table-length", like="TensorRT-LLM PR #12404: off by one at a boundary")
class CutAtBoundaryKeepsBlock(ReferenceCache):
    """A cut on a block boundary keeps an empty block."""

    def _num_blocks_kept(self, num_tokens: int) -> int:
        return num_tokens // self.block_size + 1


@TRUNCATION.breaks("table-length")
class CutRoundsDown(ReferenceCache):
    """A cut inside a block frees that block; a cut on a boundary is right."""

    def _num_blocks_kept(self, num_tokens: int) -> int:
        return num_tokens // self.block_size


@TRUNCATION.breaks("table-length")
class CutCutsForks(ReferenceCache):
    """The blocks behind a cut leave every table that they are in."""

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        cut = self._resident(seq_id).table[self._num_blocks_for(num_tokens) :]
        for sequence in self._sequences.values():
            if sequence is not self._sequences[seq_id]:
                sequence.table = [block for block in sequence.table if block not in cut]
        return super().truncate(seq_id, num_tokens)


@TRUNCATION.breaks("hit-soundness")
class WrittenOverStaysInIndex(TrustingCache):
    """A block that was cut is still found by its old tokens when new ones are written over them."""

    def _open_tail(self, sequence: SequenceState) -> tuple[tuple[int, int], ...]:
        return (self._copy_tail(sequence),) if self._copies_tail(sequence) else ()


@TRUNCATION.breaks("conservation", like="TensorRT-LLM #12933: orphans")
class CutLeaks(ReferenceCache):
    """The blocks behind the cut leave the table and go nowhere."""

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        sequence = self._resident(seq_id)
        num_blocks = len(sequence.table)
        placement = super().truncate(seq_id, num_tokens)
        for _ in range(min(num_blocks - len(sequence.table), self.num_free_blocks())):
            self._next_block()
        return placement


@TRUNCATION.breaks("no-alias")
class CutFreesShared(ReferenceCache):
    """The blocks behind a cut become free, whoever else holds them."""

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        cut = self._resident(seq_id).table[self._num_blocks_for(num_tokens) :]
        placement = super().truncate(seq_id, num_tokens)
        for block in self._num_owners.keys() & cut:
            self._retire(block)
        return placement


@TRUNCATION.breaks("no-alias")
class CutSharedBlockWritten(ReferenceCache):
    """A full block is taken for one that nobody writes, so that a cut one is written though it is shared."""

    def _copies_tail(self, sequence: SequenceState) -> bool:
        return super()._copies_tail(sequence) and sequence.table[-1] not in self._entries
