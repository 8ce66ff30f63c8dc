"""Axes of the plots: time since the run began, counts, shares, durations on a logarithmic scale."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pagedkv.recording.run import RunRecord
from pagedkv.report.axis import Scale
from pagedkv.report.fluid import ACROSS
from pagedkv.report.numbers import round_duration

__all__ = ["Ticks", "TimeAxis", "count_axis", "log_durations", "look_edges", "size_axis", "time_axis"]

Ticks = Sequence[tuple[float, str]]

_UNITS = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"))
_NS_PER_S = 1e9
_MOST_X = 5
_MOST_Y = 4
_APART = 0.19 * ACROSS  # so that labels do not meet on a phone


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Time since the run began.

    Attributes:
        scale: from seconds to units of a panel.
        ticks: round times.
        start_ns: when the run began, on its clock.
    """

    scale: Scale
    ticks: Ticks
    start_ns: int

    def __call__(self, time_ns: int) -> float:
        """Units of a time on the run's clock."""
        return self.scale((time_ns - self.start_ns) / _NS_PER_S)


def time_axis(record: RunRecord) -> TimeAxis:
    """From the beginning of the first step to the end of the last one."""
    seconds = max(1, record.stop_ns - record.start_ns) / _NS_PER_S
    size, unit = next((each for each in _UNITS if seconds >= 3 * each[0]), _UNITS[-1])
    labels = Scale(0, seconds / size, 0, ACROSS).labelled_ticks(_MOST_X)
    ticks = [(at * size, f"{text}\N{NO-BREAK SPACE}{unit}") for at, text in labels]
    return TimeAxis(Scale(0, seconds, 0, ACROSS), ticks, record.start_ns)


def look_edges(record: RunRecord, axis: TimeAxis) -> list[float]:
    """Where each look begins to hold, in units of a panel, and where the last one ends."""
    return [*map(axis, record.looks.columns["now_ns"]), axis(record.stop_ns)]


def count_axis(
    highest: float, height: float, text: Callable[[float], str], most: int = _MOST_Y
) -> tuple[Scale, Ticks]:
    """From 0, which is below, to somewhat above the highest number; whole numbers are named."""
    scale = Scale(0, max(highest * 1.08, 1e-9), height, 0)
    ticks = [(at, text(at)) for at in scale.ticks(most)]
    return scale, [tick for index, tick in enumerate(ticks) if tick[1] not in [t for _, t in ticks[:index]]]


def size_axis(
    highest: float, height: float, unit_of: Callable[[float], tuple[float, str]]
) -> tuple[Scale, Ticks]:
    """Likewise, with round numbers of a unit: `unit_of` says how large it is, and its name."""
    size, unit = unit_of(highest)
    scale = Scale(0, max(highest * 1.08, 1e-9), height, 0)
    labels = Scale(0, scale.high / size, height, 0).labelled_ticks(_MOST_Y)
    return scale, [(at * size, f"{text}\N{NO-BREAK SPACE}{unit}") for at, text in labels]


def log_durations(lowest_ns: float, highest_ns: float) -> tuple[Scale, Ticks]:
    """A logarithmic axis of nanoseconds (of their decimal logarithm) across a panel."""
    low, high = math.log10(max(1.0, lowest_ns)), math.log10(max(1.0, highest_ns))
    margin = max(0.02, 0.04 * (high - low))
    scale = Scale(low - margin, high + margin, 0, ACROSS)
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [tick for tick in _ticks(scale, factors) if scale.low <= tick[0] <= scale.high]
        if all(scale(after) - scale(at) >= _APART for (at, _), (after, _) in pairwise(ticks)):
            return scale, ticks
    return scale, ticks[:: -(-len(ticks) // _MOST_X)]


def _ticks(scale: Scale, factors: Iterable[float]) -> list[tuple[float, str]]:
    powers = range(math.floor(scale.low), math.ceil(scale.high) + 1)
    values = [factor * 10.0**power for power in powers for factor in factors]
    return [(math.log10(value), round_duration(value / _NS_PER_S)) for value in values]
