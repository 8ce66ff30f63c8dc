"""The sequences that decode, as arrays that are rebuilt only when somebody joins or leaves."""

from collections.abc import Iterable, Iterator

import numpy as np

from pagedkv.scheduler.state import RequestState, SequenceState

__all__ = ["DecodeBatch", "Members"]


class Members:
    """Sequences of some requests, a request's next to each other.

    Attributes:
        sequences: their states.
        seq_ids: their ids in the cache.
        rows: their rows in the table of tokens. Shape `[batch]` (int64).
        changes: a number that no other members of the same batch have.
    """

    __slots__ = ("changes", "rows", "seq_ids", "sequences")

    def __init__(self, requests: Iterable[RequestState], changes: int) -> None:
        self.sequences: list[SequenceState] = [each for request in requests for each in request.sequences]
        self.seq_ids: list[int] = [each.seq_id for each in self.sequences]
        self.rows = np.array([each.row for each in self.sequences], np.int64)
        self.changes = changes

    def __len__(self) -> int:
        """How many they are."""
        return len(self.seq_ids)


class DecodeBatch:
    """Requests whose sequences all have one token to compute."""

    def __init__(self) -> None:
        self._requests: dict[RequestState, None] = {}
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
        self._requests[request] = None
        self._members = None

    def leave(self, request: RequestState) -> None:
        """Take a request out, if it decodes."""
        if self._requests.pop(request, False) is None:
            self._members = None

    def changed(self) -> None:
        """Say that the sequences of some request are others now."""
        self._members = None

    def members(self) -> Members:
        """All of them."""
        if self._members is None:
            self._members = self.some(self._requests)
        return self._members

    def some(self, requests: Iterable[RequestState]) -> Members:
        """The sequences of some requests."""
        self._changes += 1
        return Members(requests, self._changes)
