"""Columns of any number of steps in bounded memory: as sums and maxima over bins that grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.stats import COLUMNS, StatsWindow

__all__ = ["BinnedSteps", "StepBins"]

_MOST_BINS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BinnedSteps:
    """Steps that followed each other, some to a bin.

    Attributes:
        num_steps: steps in each bin.
        sums: of each column of `pagedkv.stats.COLUMNS`, its sum over each bin.
        maxima: likewise its largest value.
    """

    num_steps: Sequence[int]
    sums: Mapping[str, Sequence[int]]
    maxima: Mapping[str, Sequence[int]]

    def __len__(self) -> int:
        """Bins."""
        return len(self.num_steps)

    def total(self, name: str) -> int:
        """The sum of a column over all steps."""
        return sum(self.sums[name])

    def coarser(self, most: int) -> "BinnedSteps":
        """The same steps in at most so many bins."""
        factor = -(-len(self) // most) or 1
        firsts = range(0, len(self), factor)
        return BinnedSteps(
            num_steps=[sum(self.num_steps[first : first + factor]) for first in firsts],
            sums={n: [sum(c[first : first + factor]) for first in firsts] for n, c in self.sums.items()},
            maxima={n: [max(c[first : first + factor]) for first in firsts] for n, c in self.maxima.items()},
        )

    def means(self, name: str) -> list[float]:
        """The mean of a column in each bin."""
        return [total / n for total, n in zip(self.sums[name], self.num_steps, strict=True)]


class StepBins:
    """Takes steps, and keeps at most 1024 bins of them; if there are more, neighbours become one."""

    def __init__(self) -> None:
        self._size = 1  # steps of a full bin
        self._num_steps = np.zeros(0, np.int64)
        self._sums = np.zeros((len(COLUMNS), 0), np.int64)
        self._maxima = np.zeros((len(COLUMNS), 0), np.int64)

    def add(self, window: StatsWindow) -> None:
        """Take the steps of a window, which come behind all others."""
        if not len(window):
            return
        values = np.stack([window[name] for name in COLUMNS])
        self._append(np.ones(len(window), np.int64), values, values)
        while len(self._num_steps) > _MOST_BINS:
            self._size *= 2
            self._regroup()

    def as_binned(self) -> BinnedSteps:
        """What has come until now."""
        return BinnedSteps(
            num_steps=self._num_steps.tolist(),
            sums=dict(zip(COLUMNS, self._sums.tolist(), strict=True)),
            maxima=dict(zip(COLUMNS, self._maxima.tolist(), strict=True)),
        )

    def _append(self, num_steps: Int64s, sums: Int64s, maxima: Int64s) -> None:
        self._num_steps = np.concatenate([self._num_steps, num_steps])
        self._sums = np.concatenate([self._sums, sums], axis=1)
        self._maxima = np.concatenate([self._maxima, maxima], axis=1)
        self._regroup()

    def _regroup(self) -> None:
        """Make bins that begin at multiples of their size."""
        begins = np.cumsum(self._num_steps) - self._num_steps
        firsts = np.flatnonzero(np.diff(begins // self._size, prepend=-1))
        self._num_steps = np.add.reduceat(self._num_steps, firsts)
        self._sums = np.add.reduceat(self._sums, firsts, axis=1)
        self._maxima = np.maximum.reduceat(self._maxima, firsts, axis=1)
