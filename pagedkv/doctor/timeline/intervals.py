"""Stretches of time that come in any order, in bounded memory."""

from array import array
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Intervals", "overlap", "stretches_with"]

_MOST = 1 << 20
Floats: TypeAlias = NDArray[np.float64]


class Intervals:
    """Stretches of time; those that touch become one, and beyond a million the smallest gaps are closed."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts, self._ends = array("d"), array("d")

    def add(self, start: float, end: float) -> None:
        """Add a stretch; an empty one, or one that ends before it starts, is none."""
        if end <= start:
            return
        self._starts.append(start)
        self._ends.append(end)
        if len(self._starts) >= _MOST:
            self._keep(*_without_gaps(*self.union(), _MOST // 2))

    def union(self) -> tuple[Floats, Floats]:
        """Starts and ends of the stretches, ascending and apart from each other."""
        starts, ends = np.array(self._starts), np.array(self._ends)
        if not len(starts):
            return starts, ends
        order = np.argsort(starts, kind="stable")
        starts, reach = starts[order], np.maximum.accumulate(ends[order])
        is_first = np.concatenate(([True], starts[1:] > reach[:-1]))
        last = np.concatenate((np.flatnonzero(is_first)[1:] - 1, [len(starts) - 1]))
        return starts[is_first], reach[last]

    def total(self) -> float:
        """Time in all of them."""
        starts, ends = self.union()
        return float((ends - starts).sum())

    def _keep(self, starts: Floats, ends: Floats) -> None:
        self._starts, self._ends = array("d", starts.tobytes()), array("d", ends.tobytes())


def _without_gaps(starts: Floats, ends: Floats, most: int) -> tuple[Floats, Floats]:
    """At most so many stretches, with the smallest gaps between them closed."""
    if len(starts) <= most:
        return starts, ends
    gaps = starts[1:] - ends[:-1]
    kept = np.sort(np.argpartition(gaps, -(most - 1))[-(most - 1) :])
    return np.concatenate((starts[:1], starts[kept + 1])), np.concatenate((ends[kept], ends[-1:]))


def overlap(one: Intervals, other: Intervals) -> float:
    """Time that is in both."""
    starts, ends = one.union()
    lows, highs = other.union()
    if not len(starts) or not len(lows):
        return 0.0
    return float((_covered(starts, ends, highs) - _covered(starts, ends, lows)).sum())


def _covered(starts: Floats, ends: Floats, until: Floats) -> Floats:
    """Time in the stretches up to each of these moments."""
    before = np.concatenate(([0.0], np.cumsum(ends - starts)))
    number = np.searchsorted(starts, until, side="right")
    inside = np.minimum(until, ends[np.maximum(number - 1, 0)]) - starts[np.maximum(number - 1, 0)]
    return np.where(number > 0, before[np.maximum(number - 1, 0)] + inside, 0.0)


def stretches_with(one: Intervals, moments: Floats) -> NDArray[np.bool_]:
    """For each of these moments, whether it is in a stretch."""
    starts, ends = one.union()
    if not len(starts):
        return np.zeros(len(moments), dtype=np.bool_)
    number = np.searchsorted(starts, moments, side="right") - 1
    return (number >= 0) & (moments <= ends[np.maximum(number, 0)])
