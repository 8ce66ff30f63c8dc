"""Requests that wait, in the order in which they are to be admitted."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from operator import itemgetter

from pagedkv.scheduler.order import Rank
from pagedkv.scheduler.state import RequestState, Status

__all__ = ["WaitingQueue"]

_Entry = tuple[int, RequestState]
"""Since when a request waits, and the request; outdated if it waits since another time, or not at all."""

_FEW = 64
_MOST_AT_ONCE = 256
_by_rank = itemgetter(0)


class WaitingQueue:
    """A queue sorted by rank that promotes whoever waits too long.

    Args:
        rank: the key; it changes only when a request is promoted.
        max_wait_ns: who has waited longer is promoted; None for never.

    Attributes:
        num_sequences: what the waiting requests run at once together.
        num_new_tokens: prompt tokens of those that never ran.
    """

    def __init__(self, rank: Callable[[RequestState], Rank], max_wait_ns: int | None) -> None:
        self._rank = rank
        self._max_wait_ns = max_wait_ns
        self._sorted: list[tuple[Rank, RequestState, int]] = []  # the last is its width when it was queued
        self._by_time: deque[_Entry] = deque()
        self._promoted: deque[_Entry] = deque()
        self.num_sequences = 0
        self.num_new_tokens = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._sorted)

    def first(self, count: int) -> list[RequestState]:
        """The first ones in order, at most so many."""
        return [request for _, request, _ in self._sorted[:count]]

    def push(self, request: RequestState, now_ns: int) -> None:
        """Let a request wait, since now."""
        request.status, request.queued_ns = Status.WAITING, now_ns
        self._insert(request)
        self._by_time.append((now_ns, request))
        if len(self._by_time) > 2 * len(self._sorted) + _FEW:  # who came and went behind one that still waits
            self._by_time = deque(filter(_is_waiting, self._by_time))

    def remove(self, request: RequestState) -> None:
        """Take a request out: it runs, or has ended."""
        _, _, width = self._sorted.pop(bisect_left(self._sorted, self._rank(request), key=_by_rank))
        self.num_sequences -= width
        if request.first_scheduled_ns is None:
            self.num_new_tokens -= request.request.prompt.num_tokens

    def longest_wait_ns(self, now_ns: int) -> int:
        """How long the one that has waited longest has; 0 if none waits."""
        heads = [queue[0][0] for queue in (self._promoted, self._by_time) if self._clean(queue)]
        return now_ns - min(heads) if heads else 0

    def promote(self, now_ns: int) -> list[RequestState]:
        """Promote those that have waited too long, at most so many at once as a step looks at."""
        limit, queue = self._max_wait_ns, self._by_time
        promoted: list[RequestState] = []
        if limit is None:
            return []
        self._clean(self._promoted)
        while self._clean(queue) and now_ns - queue[0][0] > limit and len(promoted) < _MOST_AT_ONCE:
            entry = queue.popleft()
            self._promoted.append(entry)
            if not entry[1].is_promoted:
                promoted.append(entry[1])
                self._promote(entry[1])
        return promoted

    def _promote(self, request: RequestState) -> None:
        self.remove(request)
        request.is_promoted = True
        self._insert(request)

    def oldest_new_ns(self) -> int | None:
        """Since when the one that has waited longest of those that never ran has; None if there is none."""
        for queue in (self._promoted, self._by_time):
            for entry in queue:
                if _is_waiting(entry) and entry[1].first_scheduled_ns is None:
                    return entry[0]
        return None

    def _insert(self, request: RequestState) -> None:
        insort(self._sorted, (self._rank(request), request, request.width), key=_by_rank)
        self.num_sequences += request.width
        if request.first_scheduled_ns is None:
            self.num_new_tokens += request.request.prompt.num_tokens

    def _clean(self, queue: deque[_Entry]) -> deque[_Entry]:
        """The queue, without those at its head that do not wait any more."""
        while queue and not _is_waiting(queue[0]):
            queue.popleft()
        return queue


def _is_waiting(entry: _Entry) -> bool:
    queued_ns, request = entry
    return request.status is Status.WAITING and request.queued_ns == queued_ns
