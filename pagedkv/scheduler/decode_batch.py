"""The sequences that decode, as lists and arrays that change only where somebody joins or leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.scheduler.state import RequestState, SequenceState

__all__ = ["DecodeBatch", "Members"]


@dataclass(frozen=True, slots=True)
class Members:
    """Sequences of some requests, a request's next to each other.

    Attributes:
        sequences: their states.
        seq_ids: their ids in the cache.
        rows: their rows in the table of tokens. Shape `[batch]` (int64).
        changes: a number that no other members of the same batch have.
    """

    sequences: list[SequenceState]
    seq_ids: list[int]
    rows: Int64s
    changes: int

    @classmethod
    def of(cls, sequences: list[SequenceState], changes: int) -> Self:
        """These sequences."""
        rows = np.array([each.row for each in sequences], np.int64)
        return cls(sequences, [each.seq_id for each in sequences], rows, changes)

    def __len__(self) -> int:
        """How many they are."""
        return len(self.seq_ids)

    def plus(self, others: Sequence[SequenceState], changes: int) -> "Members":
        """These, and others behind them."""
        more = Members.of([*others], changes)
        return Members(
            self.sequences + more.sequences,
            self.seq_ids + more.seq_ids,
            np.concatenate((self.rows, more.rows)),
            changes,
        )

    def without(self, some: Sequence[SequenceState], changes: int) -> "Members":
        """These but some that stand next to each other."""
        start = self.sequences.index(some[0])
        stop = start + len(some)
        return Members(
            self.sequences[:start] + self.sequences[stop:],
            self.seq_ids[:start] + self.seq_ids[stop:],
            np.concatenate((self.rows[:start], self.rows[stop:])),
            changes,
        )


class DecodeBatch:
    """Requests whose sequences all have one token to compute."""

    def __init__(self) -> None:
        self._requests: dict[RequestState, Sequence[SequenceState]] = {}  # and their sequences in `_members`
        self._members: Members | None = None
        self._changes = 0

    def __len__(self) -> int:
        """Sequences that decode."""
        return len(self.members())

    @property
    def num_requests(self) -> int:
        """Requests that they belong to."""
        return len(self._requests)

    def __iter__(self) -> Iterator[RequestState]:
        """The requests."""
        return iter(self._requests)

    def join(self, request: RequestState) -> None:
        """Let a request's sequences decode from now on."""
        mine = self._requests[request] = tuple(request.sequences)
        if self._members is not None:
            self._members = self._members.plus(mine, self._next())

    def leave(self, request: RequestState) -> None:
        """Take a request out, if it decodes."""
        mine = self._requests.pop(request, None)
        if mine is not None and self._members is not None:
            self._members = self._members.without(mine, self._next())

    def changed(self, request: RequestState) -> None:
        """Say that the sequences of a request are others now, or in another order."""
        if request in self._requests:
            self._requests[request] = tuple(request.sequences)
            self._members = None

    def members(self) -> Members:
        """All of them."""
        if self._members is None:
            sequences = [each for mine in self._requests.values() for each in mine]
            self._members = Members.of(sequences, self._next())
        return self._members

    def _next(self) -> int:
        self._changes += 1
        return self._changes
