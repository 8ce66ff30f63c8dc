"""Faults in the form of an answer, with sound books behind it."""

from collections.abc import Sequence
from typing import Any

from pytest_pagedkv.adapter import Placement
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["ANSWERS"]

ANSWERS = Kind("answers")


@ANSWERS.breaks("table-length")
class TableTooShort(ReferenceCache):
    """The last block is not shown."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return super().block_table(seq_id)[:-1]


@ANSWERS.breaks("table-length")
class TableTooLong(ReferenceCache):
    """A table shows a block that is reserved for the next token."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return *super().block_table(seq_id), *self._blank[:1]


@ANSWERS.breaks("well-formed")
class TableWithNegativeId(ReferenceCache):
    """Block ids start at -1."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return tuple(block - 1 for block in super().block_table(seq_id))


@ANSWERS.breaks("well-formed")
class TableOutOfRange(ReferenceCache):
    """Block ids are those of a second pool behind this one."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        return tuple(block + self.num_blocks for block in super().block_table(seq_id))


@ANSWERS.breaks("well-formed")
class TableOfFloats(ReferenceCache):
    """Block ids are floats."""

    def block_table(self, seq_id: int) -> Any:
        return [float(block) for block in super().block_table(seq_id)]


@ANSWERS.breaks("unique-free", like="TensorRT-LLM #12560: duplicate ids in one sequence")
class TableRepeatsBlock(ReferenceCache):
    """The last block stands in the place of the first, too."""

    def block_table(self, seq_id: int) -> Sequence[int]:
        table = super().block_table(seq_id)
        return *table[-1:], *table[1:]


@ANSWERS.breaks("well-formed")
class PromptMutated(ReferenceCache):
    """The prompt that is given becomes the sequence's own list of tokens."""

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        placement = super().admit(seq_id, token_ids, namespace)
        if isinstance(token_ids, list):
            token_ids.append(0)
        return placement


@ANSWERS.breaks("well-formed")
class NoPlacement(ReferenceCache):
    """An append answers None."""

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Any:
        super().append(seq_id, token_ids)


@ANSWERS.breaks("hit-soundness")
class NegativeHit(ReferenceCache):
    """A prompt without hits has -1 cached tokens."""

    def _num_cached(self, hits: Sequence[int], token_ids: Sequence[int]) -> int:
        return super()._num_cached(hits, token_ids) or -1


@ANSWERS.breaks("well-formed")
class FreeCountAsRatio(ReferenceCache):
    """The share of free blocks is given for their number."""

    def num_free_blocks(self) -> Any:
        return super().num_free_blocks() / self.num_blocks
