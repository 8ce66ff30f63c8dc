"""Plots of distributions: how long what took, how often."""

import math
from collections.abc import Iterator

from pagedkv.recording.histogram import Distribution
from pagedkv.recording.page.axes import count_axis, log_durations
from pagedkv.recording.run import RunRecord
from pagedkv.report.axis import Scale
from pagedkv.report.fluid import ACROSS, Panel, bars, fluid_figure, line
from pagedkv.report.html import Markup, element
from pagedkv.report.numbers import duration, percent

__all__ = ["distribution_plots"]

_ABOUT = {
    "ttft_ns": ("Time to first token", "requests", "From a request's arrival to its first token."),
    "inter_token_ns": ("Between tokens", "tokens", "From a token of a sequence to the next one."),
    "step_ns": ("Time of a step, distribution", "steps", "From scheduling a step to committing it."),
}
_NS_PER_S = 1e9
_HEIGHT = 132.0
_LABELS = 30.0
_PER_DECADE = 40  # bars
_LEAST = 1.5


def distribution_plots(record: RunRecord) -> Iterator[Markup]:
    """One for each duration that came up."""
    for name, (title, what, caption) in _ABOUT.items():
        found = record.distributions[name]
        if found.count:
            yield _plot(title, what, caption, found)


def _plot(title: str, what: str, caption: str, found: Distribution) -> Markup:
    scale, ticks = log_durations(found.lowest, found.highest)
    coarse = _coarse(found)
    bottom = _HEIGHT + _LABELS
    highest = max(coarse.values()) / found.count
    y, y_ticks = count_axis(highest, _HEIGHT, percent)
    y = Scale(y.low, y.high, bottom, _LABELS)
    shapes = [
        bars(
            "bar",
            ((*_sides(place, scale), _top(y, n / found.count, bottom)) for place, n in coarse.items()),
            bottom,
        )
    ]
    marks = []
    for row, percentage in enumerate((50, 99)):
        value = found.percentile(percentage)
        at = scale(math.log10(max(1, value)))
        shapes.append(line(f"p{percentage}", [(at, 14 * row + 2), (at, bottom)]))
        marks.append(_label(f"p{percentage} {duration(value / _NS_PER_S)}", at, 14 * row + 11))
    p50, p99 = (duration(found.percentile(each) / _NS_PER_S) for each in (50, 99))
    longest = duration(found.highest / _NS_PER_S)
    return fluid_figure(
        title,
        f"{caption} {found.count:,} {what}; the longest {longest}. The axis is logarithmic.",
        f"{title}: {found.count} {what}, half within {p50}, 99% within {p99}, the longest {longest}.",
        Panel(height=bottom, y=y, y_ticks=y_ticks, shapes=shapes, marks=marks),
        x=scale,
        x_ticks=ticks,
    )


def _coarse(found: Distribution) -> dict[int, int]:
    """Counts by bars, all as wide on a logarithmic axis."""
    counts: dict[int, int] = {}
    for low, width, number in zip(found.bins, found.widths, found.counts, strict=True):
        place = math.floor(math.log10(max(1, low + width // 2)) * _PER_DECADE)
        counts[place] = counts.get(place, 0) + number
    return counts


def _sides(place: int, scale: Scale) -> tuple[float, float]:
    left, right = scale(place / _PER_DECADE), scale((place + 1) / _PER_DECADE)
    return left, max(left + _LEAST, right - 1)


def _top(y: Scale, share: float, bottom: float) -> float:
    """A bar that can be seen, however few there are."""
    return min(y(share), bottom - _LEAST)


def _label(text: str, at: float, y: float) -> Markup:
    """Beside the line, on the side with room."""
    is_right = at > 0.62 * ACROSS
    return element(
        "text",
        text,
        class_="end strong" if is_right else "start strong",
        x=f"{at / ACROSS:.1%}",
        dx=-5 if is_right else 5,
        y=y,
    )
