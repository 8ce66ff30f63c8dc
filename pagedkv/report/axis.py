"""Scales: from numbers to pixels, with ticks at round numbers and room for outliers that are not to scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scale", "quantile", "robust_range"]

_FENCE = 3.0
"""As many interquartile ranges outside the middle half still are to scale."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale.

    Attributes:
        low: the number at `start`.
        high: the number at `end`, greater than `low`.
        start: pixels.
        end: pixels; less than `start` for an axis that points up.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a number; one that is not to scale lies on the edge."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def is_off(self, value: float) -> bool:
        """The number is not to scale."""
        return not self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers on the scale, at most that many."""
        step = self._step(most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def labelled_ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """The same with their text, all with as many decimals as the step between them needs."""
        decimals = max(0, -math.floor(math.log10(self._step(most)) + 1e-9))
        return [(tick, f"{tick:.{decimals}f}") for tick in self.ticks(most)]

    def _step(self, most: int) -> float:
        raw = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(raw))
        return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)


def robust_range(values: Sequence[float], include: Sequence[float] = ()) -> tuple[float, float]:
    """Lowest and highest number to scale: all but far outliers, and what must be included; with a margin."""
    low, high = (quantile(values, 0.25), quantile(values, 0.75)) if values else (0.0, 0.0)
    reach = _FENCE * (high - low)
    inside = [value for value in values if low - reach <= value <= high + reach] + list(include)
    low, high = min(inside, default=0.0), max(inside, default=1.0)
    size = max(abs(low), abs(high))
    margin = 0.06 * (high - low) if high - low > 1e-6 * size else 0.05 * size or 1.0
    return low - margin, high + margin


def quantile(values: Sequence[float], part: float) -> float:
    """A quantile of at least one value, linear between neighbours."""
    ordered = sorted(values)
    position = part * (len(ordered) - 1)
    index = min(int(position), len(ordered) - 2) if len(ordered) > 1 else 0
    after = ordered[min(index + 1, len(ordered) - 1)]
    return ordered[index] + (position - index) * (after - ordered[index])
