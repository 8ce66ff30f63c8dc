"""What the last steps were, and where the counts stood each second."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from pagedkv.events import StepCommitted, StepScheduled

__all__ = ["History", "Mark", "RecentStep"]

_NUM_STEPS = 64
_NUM_MARKS = 120
_NS_BETWEEN_MARKS = 10**9


class RecentStep(NamedTuple):
    """A step that was committed.

    Attributes:
        scheduled: what was settled about it.
        duration_ns: from then on.
        num_sampled: tokens that it brought.
    """

    scheduled: StepScheduled
    duration_ns: int
    num_sampled: int


class Mark(NamedTuple):
    """Where counts stood at a time.

    Attributes:
        time_ns: on the engine's clock.
        counts: by name.
    """

    time_ns: int
    counts: Mapping[str, int]


class History:
    """Keeps the last 64 steps, and 120 marks that are a second apart, or more where no step ended.

    Attributes:
        next_mark_ns: when the next mark is due.
    """

    def __init__(self) -> None:
        self._steps: deque[RecentStep] = deque(maxlen=_NUM_STEPS)
        self._marks: deque[Mark] = deque(maxlen=_NUM_MARKS)
        self._scheduled: StepScheduled | None = None
        self.next_mark_ns = 0

    def scheduled(self, event: StepScheduled) -> None:
        """A step that is not empty was scheduled."""
        self._scheduled = event

    def committed(self, event: StepCommitted) -> None:
        """It is done."""
        if self._scheduled is not None:
            self._steps.append(RecentStep(self._scheduled, event.duration_ns, event.num_sampled))

    def mark(self, time_ns: int, counts: Mapping[str, int]) -> None:
        """Note where the counts stand."""
        self._marks.append(Mark(time_ns, counts))
        self.next_mark_ns = time_ns + _NS_BETWEEN_MARKS

    def steps(self) -> list[RecentStep]:
        """The last steps, oldest first."""
        return list(self._steps)

    def marks(self) -> list[Mark]:
        """The last marks, oldest first."""
        return list(self._marks)
