"""Faults in which sequence an id stands for, and in what misuse is answered with."""

from collections.abc import Sequence

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["IDS"]

IDS = Kind("ids")


@IDS.breaks("documented-errors", like="vLLM 0.33, transformers 5.23: a double free is accepted")
class UnknownReleaseAccepted(ReferenceCache):
    """To release a sequence that is not live does nothing, silently."""

    def release(self, seq_id: int) -> None:
        if seq_id in self._sequences:
            super().release(seq_id)


@IDS.breaks("documented-errors")
class UnknownTruncateAccepted(ReferenceCache):
    """To cut a sequence that is not live does nothing, silently."""

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        return super().truncate(seq_id, num_tokens) if seq_id in self._sequences else Placement()


@IDS.breaks("documented-errors")
class UnknownAppendCrashes(ReferenceCache):
    """To append to a sequence that is not live is an AttributeError."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        if seq_id not in self._sequences:
            raise AttributeError("'NoneType' object has no attribute 'tokens'")
        return super().append(seq_id, token_ids)


@IDS.breaks("documented-errors")
class ForkOntoLiveId(ReferenceCache):
    """A child takes over a live id, and the blocks of its former owner."""

    def fork(self, parent_id: int, child_id: int) -> Placement:
        if child_id != parent_id:
            self._sequences.pop(child_id, None)
        return super().fork(parent_id, child_id)


@IDS.breaks("documented-errors")
class AdmitOntoLiveId(ReferenceCache):
    """A new sequence takes over a live id, and its former owner is forgotten."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        self._sequences.pop(seq_id, None)
        return super().admit(seq_id, token_ids, namespace)


@IDS.breaks("documented-errors")
class AdmitOntoLiveIdContinues(ReferenceCache):
    """A prompt for a live id is taken for the next chunk of that one."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        if seq_id in self._sequences:
            return super().append(seq_id, token_ids)
        return super().admit(seq_id, token_ids, namespace)


@IDS.breaks("documented-errors")
class RefusedMisuseLeaks(ReferenceCache):
    """A live id is refused for a new sequence only after a block was taken for it."""

    def _require_new(self, seq_id: int) -> None:
        if seq_id in self._sequences and self.num_free_blocks():
            self._next_block()
        super()._require_new(seq_id)


@IDS.breaks("come-home", like="vLLM #42273: a stale row")
class ReleasedTableStays(ReferenceCache):
    """A sequence still has a table when it is released."""

    _gone: frozenset[int] = frozenset()

    def release(self, seq_id: int) -> None:
        super().release(seq_id)
        self._gone |= {seq_id}

    def block_table(self, seq_id: int) -> Sequence[int]:
        return super().block_table(seq_id) if seq_id not in self._gone - set(self._sequences) else ()


@IDS.breaks("table-length", like="vLLM #42273: a stale row of a worker's table")
class ReusedIdSeesOldTable(ReferenceCache):
    """Behind the blocks of an id that is used again stand those that it had before."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self._rows: dict[int, Sequence[int]] = {}

    def block_table(self, seq_id: int) -> Sequence[int]:
        table = super().block_table(seq_id)
        self._rows[seq_id] = [*table, *self._rows.get(seq_id, ())[len(table) :]]
        return self._rows[seq_id]
