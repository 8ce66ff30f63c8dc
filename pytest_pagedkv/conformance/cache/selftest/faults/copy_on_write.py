"""Faults in what is copied before a shared block is written, and in how that is told."""

from collections.abc import Sequence
from itertools import count

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.bases import EagerCache, TrustingCache
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.indexed import Entry
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache, SequenceState

__all__ = ["COPY_ON_WRITE"]

COPY_ON_WRITE = Kind("copy on write")

Copies = tuple[tuple[int, int], ...]


@COPY_ON_WRITE.breaks("no-alias")
class SharedBlockWritten(ReferenceCache):
    """An append writes into the block that a fork shares."""

    def _copies_tail(self, sequence: SequenceState) -> bool:  # noqa: ARG002
        return False


@COPY_ON_WRITE.breaks("no-alias")
class ParentWritesSharedBlock(ReferenceCache):
    """Only children copy: the older owner of a shared block writes in place."""

    def _copies_tail(self, sequence: SequenceState) -> bool:
        tail = sequence.table[-1]
        oldest = next(other for other in self._sequences.values() if tail in other.table)
        return super()._copies_tail(sequence) and sequence is not oldest


@COPY_ON_WRITE.breaks("shadow")
class CopyBackwards(ReferenceCache):
    """A copy is reported from the new block to the shared one."""

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        source, destination = super()._copy_tail(sequence)
        return destination, source


@COPY_ON_WRITE.breaks("shadow")
class CopyForgotten(ReferenceCache):
    """The table names the new block, and nothing is copied into it."""

    def _open_tail(self, sequence: SequenceState) -> Copies:
        super()._open_tail(sequence)
        return ()


@COPY_ON_WRITE.breaks("shadow")
class CopyTooLate(ReferenceCache):
    """A copy is reported by the next append, after others have written."""

    _late: Copies = ()

    def _open_tail(self, sequence: SequenceState) -> Copies:
        late, self._late = self._late, super()._open_tail(sequence)
        return late


@COPY_ON_WRITE.breaks("shadow")
class CopyToWrongBlock(ReferenceCache):
    """The destination of a copy is the block next to the new one."""

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        source, destination = super()._copy_tail(sequence)
        return source, (destination + 1) % self.num_blocks


@COPY_ON_WRITE.breaks("shadow")
class CopyFromWrongBlock(ReferenceCache):
    """The source of a copy is the first block of the table, not the last."""

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        first = sequence.table[0]
        return first, super()._copy_tail(sequence)[1]


@COPY_ON_WRITE.breaks("hit-soundness")
class CopyEntersIndex(TrustingCache):
    """The copy of a cut block is found by what the original holds, though it is about to be written."""

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        source, destination = super()._copy_tail(sequence)
        if source in self._entries:
            entry = self._entries[source]
            self._enter(destination, entry)
            self._index[entry.digest].move_to_end(destination, last=False)
        return source, destination


@COPY_ON_WRITE.breaks("hit-completeness")
class CopyBansOriginal(ReferenceCache):
    """What the original of a copy holds leaves the index for good, though nobody writes to it."""

    _banned: frozenset[Entry] = frozenset()

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        if sequence.table[-1] in self._entries:
            self._banned |= {self._entries[sequence.table[-1]]}
            self._unregister(sequence.table[-1])
        return super()._copy_tail(sequence)

    def _enter(self, block: int, entry: Entry) -> None:
        if entry not in self._banned:
            super()._enter(block, entry)


@COPY_ON_WRITE.breaks("shadow")
class EagerCopyTooLate(EagerCache):
    """A fork copies at once, and only the next append reports it."""

    _late: Copies = ()

    def fork(self, parent_id: int, child_id: int) -> Placement:
        self._late += tuple(super().fork(parent_id, child_id).copies)
        return Placement()

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        placement = super().append(seq_id, token_ids)
        late, self._late = self._late, ()
        return Placement(0, (*late, *placement.copies))


@COPY_ON_WRITE.breaks("shadow")
class EagerCopyOfStaleBlock(EagerCache):
    """A fork copies a block that was free, and not the parent's last one."""

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        held = set(self._num_owners)
        stale = next(block for block in count() if block not in held)
        return stale, super()._copy_tail(sequence)[1]
