"""Log lines about the time that steps take."""

import logging
from bisect import bisect_left, insort
from collections import deque
from functools import singledispatchmethod

from pagedkv import events as ev

__all__ = ["StepTimeLog"]

SLOW_RATIO = 3
"""Times the median of like steps, above which a step is slow."""
SLOW_SLACK_NS = 1_000_000
"""What every step may take besides."""
SPIKE_RATIO = 2
"""Times the median of like ones, above which the time to a step without prompts is a spike."""
LEAST_STEPS = 16
"""Like steps that have to be known."""
STEPS_TOLD = 32
"""Steps after which it is told how long they took, so that waits can be held against all time."""
_MOST_STEPS = 128  # that a median is taken of
_log = logging.getLogger("pagedkv")


class StepTimeLog:
    """A sink that tells of steps that take much longer than like ones, and of what they wait for.

    Alike are steps whose sequences, prompt tokens and tokens in attention are within a factor of two: a step
    that computes a long prompt is long because of its work.
    """

    def __init__(self) -> None:
        self._times: dict[tuple[int, int, int], _LastTimes] = {}
        self._kind = (0, 0, 0)
        self._num_steps = 0
        self._steps_ns = 0  # of those not told yet
        self._told_at_ns: int | None = None
        self._intervals: dict[tuple[int, int, int], _LastTimes] = {}  # from the end of a decode to the next
        self._ended_at_ns: int | None = None
        self._num_decodes = self._num_spikes = 0  # of those not told yet

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._fold(event)

    @singledispatchmethod
    def _fold(self, event: ev.Event) -> None:
        """Most kinds of event say nothing about time."""

    @_fold.register
    def _(self, event: ev.StepScheduled) -> None:
        if self._told_at_ns is None:
            self._told_at_ns = event.now_ns
        sizes = (event.batch_size, event.num_prefill_tokens, event.num_kv_tokens)
        self._kind = (sizes[0].bit_length(), sizes[1].bit_length(), sizes[2].bit_length())

    @_fold.register
    def _(self, event: ev.StepCommitted) -> None:
        self._num_steps += 1
        times = self._times.setdefault(self._kind, _LastTimes())
        if len(times) >= LEAST_STEPS:
            median_ns = times.median()
            if event.duration_ns > SLOW_RATIO * median_ns + SLOW_SLACK_NS:
                _log.warning(
                    "[Engine] Step %d took %.1f ms (p50 %.1f ms)",
                    self._num_steps,
                    event.duration_ns / 1e6,
                    median_ns / 1e6,
                )
        times.add(event.duration_ns)
        self._steps_ns += event.duration_ns
        if self._ended_at_ns is not None and not self._kind[1]:
            self._compare(event.now_ns - self._ended_at_ns)
        self._ended_at_ns = event.now_ns
        if not self._num_steps % STEPS_TOLD:
            self._tell_time(event.now_ns)

    def _compare(self, interval_ns: int) -> None:
        """Count a step that only decodes, and whether its sequences waited longer than usual for it."""
        intervals = self._intervals.setdefault(self._kind, _LastTimes())
        if len(intervals) >= LEAST_STEPS:
            self._num_decodes += 1
            self._num_spikes += interval_ns > SPIKE_RATIO * intervals.median()
        intervals.add(interval_ns)

    def _tell_time(self, now_ns: int) -> None:
        since_ns = now_ns if self._told_at_ns is None else self._told_at_ns
        _log.debug(
            "[Engine] %d steps took %.1f ms of %.1f ms; %d of %d decodes took more than twice the median",
            STEPS_TOLD,
            self._steps_ns / 1e6,
            (now_ns - since_ns) / 1e6,
            self._num_spikes,
            self._num_decodes,
        )
        self._steps_ns, self._told_at_ns = 0, now_ns
        self._num_decodes = self._num_spikes = 0

    @_fold.register
    def _(self, event: ev.StreamAwaited) -> None:
        _log.debug("[GPU Stream Sync] wait_event")
        _log.debug("[Engine] A step stood still for %.2f ms: %s", event.wait_ns / 1e6, event.route)

    @_fold.register
    def _(self, event: ev.StepCompiled) -> None:
        _log.warning(
            "[Engine] A step compiled %d kernels in %.1f ms", event.num_kernels, event.duration_ns / 1e6
        )


class _LastTimes:
    """The last so many times, and their median."""

    def __init__(self) -> None:
        self._last: deque[int] = deque()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._last)

    def add(self, time_ns: int) -> None:
        """Take one, the oldest giving way."""
        if len(self._last) == _MOST_STEPS:
            del self._sorted[bisect_left(self._sorted, self._last.popleft())]
        self._last.append(time_ns)
        insort(self._sorted, time_ns)

    def median(self) -> int:
        """The smallest that half of them do not exceed."""
        return self._sorted[(len(self._sorted) - 1) // 2]
