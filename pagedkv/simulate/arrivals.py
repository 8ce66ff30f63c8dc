"""When the requests of a trace are sent: at its times, or when a session's user has read the last answer."""

import math
from collections.abc import Iterator
from heapq import heappop, heappush

from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.traces import Trace, TraceRequest

__all__ = ["Arrivals"]

_NS_PER_MS = 1_000_000


class Arrivals:
    """A queue of requests by time; requests of the same time are in the order of the file.

    Args:
        trace: the trace.
        time_scale: what all its times, think times too, are multiplied by; 2 halves the load.
        closed_loop: send a request that has a think time this long after the end of the session's request
            before it, whenever that is; else at its own time.

    Raises:
        ConfigError: the scale is not a positive number.
        TraceFormatError: a request has no time.
    """

    def __init__(self, trace: Trace, *, time_scale: float, closed_loop: bool) -> None:
        if not (isinstance(time_scale, (int, float)) and 0 < time_scale < math.inf):
            raise ConfigError(f"time_scale is {time_scale!r}; it must be a finite number above 0")
        self._time_scale = time_scale
        self._queue: list[tuple[int, int, TraceRequest]] = []
        self._followers: dict[int, TraceRequest] = {}
        last: dict[int | str, TraceRequest] = {}
        for request in trace.requests:
            before = None if request.session_id is None else last.get(request.session_id)
            if closed_loop and before is not None and request.think_ms is not None:
                self._followers[before.index] = request
            else:
                self._push(_arrival_ms(trace, request) * _NS_PER_MS, request)
            if request.session_id is not None:
                last[request.session_id] = request

    @property
    def next_ns(self) -> int | None:
        """When the next one comes; None if none does before another one ends."""
        return self._queue[0][0] if self._queue else None

    def due(self, now_ns: int) -> Iterator[tuple[int, TraceRequest]]:
        """Take those that have come, each with the time at which it did."""
        while self._queue and self._queue[0][0] <= now_ns:
            at_ns, _, request = heappop(self._queue)
            yield at_ns, request

    def ended(self, request: TraceRequest, now_ns: int) -> None:
        """Say that a request has ended, in whatever way: its session may go on."""
        if (follower := self._followers.pop(request.index, None)) is not None:
            self._push((follower.think_ms or 0) * _NS_PER_MS, follower, since_ns=now_ns)

    def _push(self, time_ns: int, request: TraceRequest, since_ns: int = 0) -> None:
        heappush(self._queue, (since_ns + round(time_ns * self._time_scale), request.index, request))


def _arrival_ms(trace: Trace, request: TraceRequest) -> int:
    if request.arrival_ms is None:
        raise TraceFormatError(
            trace.name,
            request.line,
            "expected an arrival time, as a simulation needs one; the row has none",
            "timestamp",
        )
    return request.arrival_ms
