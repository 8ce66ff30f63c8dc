"""First come, first served on a pool of blocks: how long requests wait when blocks are what is scarce."""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate
from typing import TYPE_CHECKING

from pagedkv.block_pool import BlockPool
from pagedkv.errors import TraceFormatError
from pagedkv.replay.result import Progress, ReplayResult, block_size_for, pool_size, tracked
from pagedkv.traces import Trace, TraceRequest

if TYPE_CHECKING:
    from array import array

__all__ = ["FcfsResult", "duration_ms", "replay_fcfs"]

_PROMPT_TOKENS_PER_MS = 8
_MS_PER_OUTPUT_TOKEN = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class FcfsResult(ReplayResult):
    """Result of `replay_fcfs`. Units: milliseconds on the trace's clock; blocks.

    Attributes:
        max_queue: most requests that were left waiting at once.
        total_wait_ms: sum of the times from arrival to admission.
        makespan_ms: time of the last departure; 0 if there was none.
        peak_requests: most requests that ran at once.
        peak_blocks: most blocks held at once.
        rejected: requests that need more blocks than the pool has.
        requests: all requests of the trace.
    """

    max_queue: int
    total_wait_ms: int
    makespan_ms: int
    peak_requests: int
    peak_blocks: int
    rejected: int
    requests: int


def duration_ms(request: TraceRequest) -> int:
    """Time from admission to departure: 8 prompt tokens a millisecond, then 25 ms for each output token."""
    prefill = -(-request.num_prompt_tokens // _PROMPT_TOKENS_PER_MS)
    return prefill + _MS_PER_OUTPUT_TOKEN * request.num_output_tokens


def replay_fcfs(
    trace: Trace,
    num_blocks: int | None = None,
    *,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> FcfsResult:
    """Let requests arrive at their times and wait in one queue for all the blocks that they will ever need.

    Nothing is shared, and the head of the queue blocks the rest. Requests that arrive at the same time keep
    the order of the file.

    Args:
        trace: lengths and arrival times matter.
        num_blocks: size of the pool; None for as many as are ever needed.
        block_size: tokens in a block; by default that of the trace's ids, or 16.
        progress: told how far it is.

    Raises:
        TraceFormatError: a request has no arrival time.
        ConfigError: a size is not one that a pool can have.
    """
    size = block_size_for(trace, block_size)
    needed = _peak_blocks(trace, size) if num_blocks is None else 0
    service = _Service(BlockPool(pool_size(num_blocks, needed)), size)
    ordered = sorted(trace.requests, key=lambda request: _arrival_ms(trace, request))  # stable
    arrivals = tracked(ordered, progress)
    head = next(arrivals, None)
    while (now := service.next_event(head)) is not None:
        service.depart(now)
        while head is not None and head.arrival_ms == now:
            service.arrive(head)
            head = next(arrivals, None)
        service.admit(now)
    return service.result(len(trace.requests))


def _peak_blocks(trace: Trace, block_size: int) -> int:
    """Most blocks held at once if nobody ever waits."""
    changes: list[tuple[int, int]] = []
    for request in trace.requests:
        now, num_blocks = _arrival_ms(trace, request), request.num_blocks(block_size)
        changes += (now, num_blocks), (now + duration_ms(request), -num_blocks)
    changes.sort()  # at equal times the negative ones, departures, come first
    return max(accumulate(change for _, change in changes), default=0)


def _arrival_ms(trace: Trace, request: TraceRequest) -> int:
    if request.arrival_ms is None:
        raise TraceFormatError(
            trace.name,
            request.line,
            "expected an arrival time, as fcfs needs one; the row has none",
            "timestamp",
        )
    return request.arrival_ms


class _Service:
    """The queue, what runs, and what has been counted so far."""

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size
        self._queue: deque[TraceRequest] = deque()
        self._running: list[tuple[int, int, array[int]]] = []  # (departure in ms, index, blocks)
        self._max_queue = self._total_wait_ms = self._makespan_ms = 0
        self._peak_requests = self._peak_blocks = self._rejected = 0

    def next_event(self, arriving: TraceRequest | None) -> int | None:
        """Time of the next arrival or departure in ms; None when nothing is left to happen."""
        times = [self._running[0][0]] if self._running else []
        if arriving is not None and arriving.arrival_ms is not None:
            times.append(arriving.arrival_ms)
        return min(times, default=None)

    def depart(self, now: int) -> None:
        """End the requests whose time is up."""
        while self._running and self._running[0][0] == now:
            self._pool.free(heappop(self._running)[2])
            self._makespan_ms = now

    def arrive(self, request: TraceRequest) -> None:
        """Queue a request, or reject one that the pool can never hold."""
        if request.num_blocks(self._block_size) > self._pool.num_blocks:
            self._rejected += 1
        else:
            self._queue.append(request)

    def admit(self, now: int) -> None:
        """Start requests from the head of the queue while their blocks are there."""
        while self._queue and (n := self._queue[0].num_blocks(self._block_size)) <= self._pool.num_free:
            request = self._queue.popleft()
            self._total_wait_ms += now - (request.arrival_ms or 0)
            heappush(self._running, (now + duration_ms(request), request.index, self._pool.allocate(n)))
        self._max_queue = max(self._max_queue, len(self._queue))
        self._peak_requests = max(self._peak_requests, len(self._running))
        self._peak_blocks = max(self._peak_blocks, self._pool.num_blocks - self._pool.num_free)

    def result(self, num_requests: int) -> FcfsResult:
        """What has been counted."""
        return FcfsResult(
            max_queue=self._max_queue,
            total_wait_ms=self._total_wait_ms,
            makespan_ms=self._makespan_ms,
            peak_requests=self._peak_requests,
            peak_blocks=self._peak_blocks,
            rejected=self._rejected,
            requests=num_requests,
        )
