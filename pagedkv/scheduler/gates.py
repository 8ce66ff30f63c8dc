"""What keeps a waiting request from being admitted, besides blocks: each gate is one setting.

A gate is asked once a step whether to open, and then for each request. It answers with the reason to hold a
request, or None. `BatchPeriod` holds whole steps.
"""

from bisect import bisect_left

from pagedkv.scheduler.state import RequestState
from pagedkv.scheduler.waiting import WaitingQueue

__all__ = ["AdaptiveLimit", "BatchPeriod", "FixedLimit", "LengthBuckets", "MergeWindow"]

_NS_PER_MS = 1_000_000


class MergeWindow:
    """Holds new requests until the first of them has waited, or as many are there as can begin.

    Args:
        window_ms: how long the first one waits.
        full_tokens: prompt tokens that fill a step.
    """

    def __init__(self, window_ms: float, full_tokens: int) -> None:
        self._window_ns = round(window_ms * _NS_PER_MS)
        self._full_tokens = full_tokens
        self.opens_ns: int | None = None

    def begin_step(self, waiting: WaitingQueue, num_places: int, now_ns: int) -> None:
        """Look at what waits; `num_places` more sequences could run."""
        self.opens_ns = None
        if self._window_ns and not self._is_full(waiting, num_places):
            oldest_ns = waiting.oldest_new_ns()
            if oldest_ns is not None and now_ns < oldest_ns + self._window_ns:
                self.opens_ns = oldest_ns + self._window_ns

    def reason(self, request: RequestState) -> str | None:
        """Why the request is held."""
        if self.opens_ns is None or request.first_scheduled_ns is not None:
            return None
        return f"others may come within the merge window of {self._window_ns / _NS_PER_MS:g} ms"

    def _is_full(self, waiting: WaitingQueue, num_places: int) -> bool:
        return waiting.num_sequences >= num_places or waiting.num_new_tokens >= self._full_tokens


class BatchPeriod:
    """Lets steps begin at multiples of a time only.

    Args:
        period_ms: that time.
    """

    def __init__(self, period_ms: float) -> None:
        self._period_ns = round(period_ms * _NS_PER_MS)
        self._due_ns: int | None = None

    def due_ns(self, now_ns: int) -> int | None:
        """When the next step is to begin; None if that is now."""
        if self._due_ns is None:
            self._due_ns = -(-now_ns // self._period_ns) * self._period_ns
        if now_ns < self._due_ns:
            return self._due_ns
        self._due_ns = None
        return None


class LengthBuckets:
    """Lets prompts of one bucket begin in a step: that of the first that is asked about.

    Args:
        bounds: upper bounds of the buckets, ascending; longer prompts have one of their own.
    """

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self._bounds = bounds
        self._bucket: int | None = None

    def begin_step(self) -> None:
        """No bucket is chosen yet."""
        self._bucket = None

    def admitted(self, request: RequestState) -> None:
        """The request begins: its bucket is this step's."""
        self._bucket = self._of(request)

    def reason(self, request: RequestState) -> str | None:
        """Why the request is held."""
        if not self._bounds or self._bucket in (None, self._of(request)):
            return None
        return f"this step begins prompts of another length bucket of {self._bounds}"

    def _of(self, request: RequestState) -> int:
        return bisect_left(self._bounds, request.request.prompt.num_tokens)


class FixedLimit:
    """Lets a fixed number of sequences run.

    Args:
        max_running: how many.

    Attributes:
        num_sequences: how many may run now.
        average: moving average of what ran; None where the limit does not follow it.
    """

    def __init__(self, max_running: int) -> None:
        self.num_sequences = max_running
        self.average: float | None = None

    def end_step(self, num_running: int, num_preempted: int) -> None:
        """A step of so many running sequences was scheduled, for which so many requests were preempted."""

    def reason(self, request: RequestState, num_running: int) -> str | None:
        """Why the request is held, beside so many running sequences."""
        if num_running + request.width <= self.num_sequences or not num_running:
            return None
        return f"{num_running} sequences run, {request.width} more would be above {self.num_sequences}"


class AdaptiveLimit(FixedLimit):
    """Lets as many run as the pool sustains.

    After a preemption the limit falls to the moving average of what ran, if that is lower; with every step
    without one it rises by one.

    Args:
        max_running: the limit's own limit.
        num_steps: steps that the moving average reaches back.
    """

    def __init__(self, max_running: int, num_steps: int) -> None:
        super().__init__(max_running)
        self._max_running = max_running
        self._num_steps = num_steps

    def end_step(self, num_running: int, num_preempted: int) -> None:
        """A step of so many running sequences was scheduled, for which so many requests were preempted."""
        if self.average is None:
            self.average = float(num_running)
        if num_preempted:
            self.num_sequences = max(1, min(int(self.average), num_running))
        else:
            self.num_sequences = min(self._max_running, self.num_sequences + 1)
        self.average += (num_running - self.average) / self._num_steps
