"""Counts of durations in bins so narrow that percentiles can be read off them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pagedkv.block_ids import Int64s

__all__ = ["Distribution", "Histogram"]

_FINE_BITS = 7  # bins to a power of two: 128, so that each is at most 1/128 as wide as its values are large
_FINE = 1 << _FINE_BITS
_NUM_BINS = 58 * _FINE
_WAITING = 8192
_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How often which values came up.

    Attributes:
        count: values.
        total: their sum.
        lowest: the smallest; 0 if there are none.
        highest: the largest, likewise.
        bins: the smallest number that belongs to each bin which has any value, ascending.
        widths: numbers that belong to each; it is at most 1/128 of the smallest, or 1.
        counts: values in each.
    """

    count: int
    total: int
    lowest: int
    highest: int
    bins: Sequence[int]
    widths: Sequence[int]
    counts: Sequence[int]

    def percentile(self, percent: int) -> int:
        """The smallest value that at least so many percent do not exceed, within 0.4%; 0 of nothing."""
        rank, seen = max(1, -(-percent * self.count // _PERCENT)), 0
        for low, width, count in zip(self.bins, self.widths, self.counts, strict=True):
            seen += count
            if seen >= rank:
                return min(max(low + width // 2, self.lowest), self.highest)
        return 0


class Histogram:
    """Takes non-negative integers, and keeps how many fell into each bin: 58 kB, however many come."""

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_BINS, np.int64)
        self._waiting: list[Int64s] = []
        self._num_waiting = 0
        self._total = 0
        self._lowest, self._highest = np.iinfo(np.int64).max, 0

    def add(self, values: Int64s) -> None:
        """Take values. Shape `[n]` (int64); they are looked at later, so they must not change."""
        self._waiting.append(values)
        self._num_waiting += len(values)
        if self._num_waiting >= _WAITING:
            self._sort_in()

    def as_distribution(self) -> Distribution:
        """What has come until now."""
        self._sort_in()
        filled = np.flatnonzero(self._counts)
        shifts = np.maximum(filled // _FINE - 1, 0)
        counts = self._counts[filled]
        return Distribution(
            count=int(counts.sum()),
            total=self._total,
            lowest=int(self._lowest) if len(filled) else 0,
            highest=int(self._highest),
            bins=((filled - shifts * _FINE) << shifts).tolist(),
            widths=(1 << shifts).tolist(),
            counts=counts.tolist(),
        )

    def _sort_in(self) -> None:
        if not self._num_waiting:
            return
        values = np.concatenate(self._waiting)
        self._waiting, self._num_waiting = [], 0
        shifts = np.maximum(np.frexp(values.astype(np.float64))[1] - (_FINE_BITS + 1), 0).astype(np.int64)
        places = np.minimum(shifts * _FINE + (values >> shifts), _NUM_BINS - 1)
        self._counts += np.bincount(places, minlength=_NUM_BINS)
        self._total += int(values.sum())
        self._lowest = min(self._lowest, int(values.min()))
        self._highest = max(self._highest, int(values.max()))
