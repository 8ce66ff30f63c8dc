"""Rows of the live sequences: block table, length and state, as arrays that grow."""

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.errors import DuplicateSequence, InvalidRequest, UnknownSequence

__all__ = ["SequenceTable"]

_FIRST_ROWS = 64
_FIRST_WIDTH = 16
_FEW = 16
_NO_BATCH: tuple[Sequence[int], Int64s] = ((), np.empty(0, np.int64))


class SequenceTable:
    """Struct of arrays with one row for each live sequence.

    Attributes:
        tables: block ids of each row, valid up to the row's number of blocks.
            Shape `[num_rows, width]` (int32).
        num_tokens: tokens of each row. Shape `[num_rows]` (int64).
        guarded: rows whose partly filled last block may be shared or registered: look before writing to it.
            Shape `[num_rows]` (bool).
        num_guarded: how many rows are guarded.
        last_step: last step that reads the row's blocks. Shape `[num_rows]` (int64).
        namespaces: prefix-cache namespace of each row; None if its blocks must not be registered.
    """

    def __init__(self) -> None:
        self.tables: Int32s = np.zeros((_FIRST_ROWS, _FIRST_WIDTH), np.int32)
        self.num_tokens: Int64s = np.zeros(_FIRST_ROWS, np.int64)
        self.guarded: npt.NDArray[np.bool_] = np.zeros(_FIRST_ROWS, np.bool_)
        self.num_guarded = 0
        self.last_step: Int64s = np.zeros(_FIRST_ROWS, np.int64)
        self.namespaces: list[str | None] = [""] * _FIRST_ROWS
        self._row_of: dict[int, int] = {}
        self._spare = list(range(_FIRST_ROWS - 1, -1, -1))
        self._batch = _NO_BATCH

    def __len__(self) -> int:
        """Live sequences."""
        return len(self._row_of)

    def __contains__(self, seq_id: int) -> bool:
        """Whether the sequence is live."""
        return seq_id in self._row_of

    def seq_ids(self) -> list[int]:
        """Ids of the live sequences, oldest first."""
        return list(self._row_of)

    def rows(self) -> Int64s:
        """Rows of the live sequences, oldest first. Shape `[num_sequences]` (int64)."""
        return np.fromiter(self._row_of.values(), np.int64, len(self._row_of))

    def row(self, seq_id: int) -> int:
        """Row of a live sequence.

        Raises:
            UnknownSequence: it is not live.
        """
        try:
            return self._row_of[seq_id]
        except (KeyError, TypeError):
            raise self._unknown(seq_id) from None

    def rows_of(self, seq_ids: Sequence[int]) -> Int64s:
        """Rows of distinct live sequences. Shape `[len(seq_ids)]` (int64), read-only.

        The last batch is remembered: a running batch decodes many steps with the same members.

        Raises:
            UnknownSequence: one of them is not live.
            DuplicateSequence: one of them is named twice.
        """
        known, rows = self._batch
        try:
            ids = seq_ids.tolist() if isinstance(seq_ids, np.ndarray) else seq_ids
            ids = ids if type(ids) is list else list(ids)
            if ids == known:
                return rows
        except (TypeError, ValueError):
            raise InvalidRequest(f"sequence ids must be a sequence of ints, got {seq_ids!r:.80}") from None
        try:
            rows = np.array([self._row_of[seq_id] for seq_id in ids], np.int64)
        except (KeyError, TypeError):
            raise self._unknown(next(i for i in ids if not self._is_live(i))) from None
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise DuplicateSequence(f"sequence {twice} is named {ids.count(twice)} times in one batch")
        rows.flags.writeable = False
        if len(ids) >= _FEW:  # a few are quick to look up, and should not take the place of a batch
            self._batch = (ids[:], rows)  # the caller may change its list
        return rows

    def copied(self, block_size: int) -> "SequenceTable":
        """The live sequences as they are now, in arrays of their own, for whoever looks at them later."""
        other = copy.copy(self)
        width = -(-int(self.num_tokens.max(initial=0)) // block_size)
        other._part(width)  # noqa: SLF001 - a copy of its own
        return other

    def _part(self, width: int) -> None:
        """Have nothing in common any more with what this is a copy of."""
        self.tables, self.num_tokens = self.tables[:, :width].copy(), self.num_tokens.copy()
        self.namespaces, self._row_of = self.namespaces.copy(), self._row_of.copy()

    def require_new(self, seq_id: int) -> None:
        """Check that an id can be given to a new sequence.

        Raises:
            InvalidRequest: it is no int.
            DuplicateSequence: it is live.
        """
        if not isinstance(seq_id, (int, np.integer)):
            raise InvalidRequest(f"sequence id {seq_id!r:.40} is not an int")
        if seq_id in self._row_of:
            raise DuplicateSequence(
                f"sequence {seq_id} is live already; release it first, or choose another id"
            )

    def open(self, seq_id: int, namespace: str | None, num_blocks: int) -> int:
        """Give a new sequence a row with room for `num_blocks` blocks."""
        if not self._spare:
            self._grow_rows()
        self.make_room(num_blocks)
        row = self._row_of[int(seq_id)] = self._spare.pop()
        self.namespaces[row] = namespace
        self.last_step[row] = 0
        return row

    def close(self, seq_id: int) -> None:
        """Give the row of a sequence back."""
        row = self._row_of.pop(seq_id)
        if self.num_guarded:
            self.guard(row, False)
        self.num_tokens[row] = 0
        self._spare.append(row)
        self._batch = _NO_BATCH

    def bar_from_registration(self) -> None:
        """Let nothing that live sequences and their forks write enter the prefix cache."""
        for row in self._row_of.values():
            self.namespaces[row] = None

    def guard(self, row: int, on: bool) -> None:
        """Set or clear a row's guard."""
        self.num_guarded += int(on) - int(self.guarded[row])
        self.guarded[row] = on

    def make_room(self, num_blocks: int) -> None:
        """Widen the tables so that a row can hold `num_blocks` blocks; earlier views keep the old memory."""
        width = self.tables.shape[1]
        if num_blocks > width:
            extra = max(num_blocks, 2 * width) - width
            self.tables = np.pad(self.tables, ((0, 0), (0, extra)))

    def _grow_rows(self) -> None:
        old = len(self.num_tokens)
        self.tables = np.pad(self.tables, ((0, old), (0, 0)))
        self.num_tokens = np.pad(self.num_tokens, (0, old))
        self.guarded = np.pad(self.guarded, (0, old))
        self.last_step = np.pad(self.last_step, (0, old))
        self.namespaces += [""] * old
        self._spare = list(range(2 * old - 1, old - 1, -1))

    def _is_live(self, seq_id: object) -> bool:
        try:
            return seq_id in self._row_of
        except TypeError:
            return False

    def _unknown(self, seq_id: object) -> UnknownSequence:
        return UnknownSequence(
            f"sequence {seq_id!r:.40} is not live ({len(self._row_of)} are); released, or never admitted"
        )
