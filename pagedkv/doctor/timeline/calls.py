"""Calls of the host, by thread, to be looked at beside the steps of that thread."""

from array import array
from collections.abc import Hashable, Mapping

import numpy as np

from pagedkv.doctor.timeline.intervals import Intervals, overlap, stretches_with
from pagedkv.pitfalls.finding import Source

__all__ = ["Calls", "sources_of"]

_MOST = 1 << 20
_MOST_NAMES = 256


class Calls:
    """Calls of a kind; of more than a million in a thread, those that come later are only counted.

    Attributes:
        num_left_out: those.
    """

    def __init__(self) -> None:
        self._times: dict[Hashable, Intervals] = {}
        self._starts: dict[Hashable, array[float]] = {}
        self._lasting: dict[Hashable, array[float]] = {}
        self._numbers: dict[Hashable, array[int]] = {}
        self._named: dict[Hashable, array[int]] = {}
        self._names: dict[str, int] = {}
        self.num_left_out = 0

    def add(self, thread: Hashable, name: str, start: float, end: float, number: int) -> None:
        """Add a call: its thread, name, times and number in the file."""
        if thread not in self._times:
            self._times[thread] = Intervals()
            self._starts[thread], self._lasting[thread] = array("d"), array("d")
            self._numbers[thread], self._named[thread] = array("q"), array("q")
        if len(self._starts[thread]) >= _MOST:
            self.num_left_out += 1
            return
        self._times[thread].add(start, end)
        self._starts[thread].append(start)
        self._lasting[thread].append(end - start)
        self._numbers[thread].append(number)
        name = name if name in self._names or len(self._names) < _MOST_NAMES else "others"
        self._named[thread].append(self._names.setdefault(name, len(self._names)))

    def time_inside(self, steps: Mapping[Hashable, Intervals]) -> float:
        """Time in these calls within the steps of their threads."""
        return sum(overlap(steps[each], times) for each, times in self._times.items() if each in steps)

    def inside(self, steps: Mapping[Hashable, Intervals]) -> list[tuple[int, float, str]]:
        """Number, duration and name of the calls that begin within a step, as they stand in the file."""
        names = list(self._names)
        found: list[tuple[int, float, str]] = []
        for thread, starts in self._starts.items():
            if thread not in steps:
                continue
            for at in np.flatnonzero(stretches_with(steps[thread], np.array(starts))).tolist():
                named = names[self._named[thread][at]]
                found.append((self._numbers[thread][at], self._lasting[thread][at], named))
        return sorted(found)


def sources_of(file: str, calls: list[tuple[int, float, str]]) -> tuple[Source, ...]:
    """The first of these calls, and the longest."""
    if not calls:
        return ()
    picked = dict.fromkeys((calls[0], max(calls, key=lambda call: call[1])))
    return tuple(Source(file, number, f"{name}, {lasting:,.1f} us") for number, lasting, name in picked)
