"""The plots of one benchmark: paired rounds, distribution, history, and the small one in its row."""

from collections.abc import Iterator, Sequence

from pagedkv.report.axis import Scale, quantile, robust_range
from pagedkv.report.html import Markup, element, joined, void
from pagedkv.report.marks import (
    LEFT,
    RIGHT,
    arrow,
    band,
    diamond,
    dots,
    figure,
    label,
    line,
    polyline,
    x_axis,
    y_axis,
)
from pytest_pagedkv.baselines.wording import counted
from pytest_pagedkv.report.timings import Duet, Pair, Stored
from pytest_pagedkv.report.wording import interval, percent, shown_duration, significant

__all__ = ["distribution_plot", "forest_plot", "history_plot", "pairs_plot"]

_GAP = 10
_MOST_LABELLED = 7
_GOLDEN = 0.618
_FOREST = (120, 18)


def pairs_plot(duet: Duet) -> Markup:
    """Change of time round by round, pair beside pair, over the band that the threshold leaves."""
    top, bottom = 12, 196
    changes = [change for pair in duet.pairs for change in pair.changes]
    limit = duet.threshold or 0.0
    y = Scale(*robust_range(changes, [-limit, 0.0, limit]), bottom, top)
    parts = [y_axis(y, [(tick, _percent_tick(tick, y)) for tick in y.ticks()])]
    if limit:
        names = (f"-{percent(limit, sign=False)}", f"+{percent(limit, sign=False)}")
        parts.insert(0, band(y, -limit, limit, names))
    parts.append(line("zero", LEFT, y(0), RIGHT, y(0)))
    named = list(_named(duet))
    for (name, pair), slot in zip(named, _slots(duet.pairs), strict=True):
        parts.append(_pair(name if len(named) <= _MOST_LABELLED else "", pair, slot, y))
    return figure("Paired rounds", _meaning(duet), _told_pairs(duet, len(changes)), bottom + 38, *parts)


def distribution_plot(rows: Sequence[tuple[str, str, Sequence[float]]]) -> Markup:
    """Times of one call on a shared axis: every round a dot, the middle half a bar, the median a tick.

    Args:
        rows: name, class of style, times in ns.
    """
    height = 46
    bottom = 8 + height * len(rows)
    x = Scale(*robust_range([value for _, _, values in rows for value in values]), LEFT, RIGHT - 78)
    parts = [x_axis(x, [(tick, shown_duration(max(tick, 0.0))) for tick in x.ticks(5)], bottom)]
    for index, (name, style, values) in enumerate(rows):
        parts.append(_strip(name, style, values, 8 + height * (index + 0.5), x))
    told = "; ".join(
        f"{name}, {counted(len(values), 'round')}: median {shown_duration(quantile(values, 0.5))}, "
        f"middle half {shown_duration(quantile(values, 0.25))} to {shown_duration(quantile(values, 0.75))}"
        for name, _, values in rows
    )
    caption = "Time of one call; bar: middle half of the rounds; number: median."
    return figure(
        "Distribution", caption, f"Distribution of the time of one call. {told}.", bottom + 24, *parts
    )


def history_plot(stored: Stored) -> Markup:
    """Stored runs from old to new, then this one, over the band of the tolerance around the baseline."""
    top, bottom = 12, 122
    values = [*stored.history, *([] if stored.centre is None else [stored.centre])]
    edges = _tolerated(stored)
    y = Scale(*robust_range(values, [*edges, *values[-1:]]), bottom, top)
    x = Scale(0, max(len(values) - 1, 1), LEFT + 20, RIGHT - 20)
    places = [(x(index), y(value)) for index, value in enumerate(values)]
    parts = [y_axis(y, _history_ticks(stored, y)), polyline("trace", places)]
    if edges:
        limit = percent(stored.tolerance or 0, sign=False)
        parts.insert(0, band(y, edges[0], edges[1], (f"-{limit}", f"+{limit}")))
    if stored.history:
        parts.append(dots(places[: len(stored.history)], "stored"))
        parts.append(label("oldest", places[0][0], bottom + 18, "middle"))
    if stored.centre is not None:
        parts += [diamond(*places[-1]), label("this run", places[-1][0], bottom + 18, "middle")]
    caption = f"{_history_unit(stored)}; band: tolerance around the baseline."
    return figure("History of stored timings", caption, _told_history(stored), bottom + 24, *parts)


def forest_plot(duet: Duet, reach: float) -> Markup:
    """One change of time as a dot with its interval over the band of the threshold, for a row of a table.

    Args:
        duet: one that was judged.
        reach: the relative change at both edges, equal in all rows.
    """
    width, height = _FOREST
    x, middle = Scale(-reach, reach, 4, width - 4), height / 2
    effect, limit = duet.effect or 0.0, duet.threshold or 0.0
    parts = [
        void("rect", class_="band", x=x(-limit), y=1, width=x(limit) - x(-limit), height=height - 2),
        line("zero", x(0), 1, x(0), height - 1),
    ]
    if duet.low is not None and duet.high is not None:
        parts.append(line("span", x(duet.low), middle, x(duet.high), middle))
    if x.is_off(effect):
        parts.append(arrow(x(effect), middle, "right" if effect > 0 else "left"))
    else:
        parts.append(dots([(x(effect), middle)], "confirm"))
    return element("svg", *parts, class_="forest", viewBox=f"0 0 {width} {height}", aria_hidden="true")


def _slots(pairs: Sequence[Pair]) -> Iterator[tuple[float, float]]:
    """Left and right edge of each pair, as wide as it has rounds."""
    sizes = [len(pair.changes) for pair in pairs]
    gap = min(_GAP, 0.3 * (RIGHT - LEFT) / len(sizes))
    room, left = RIGHT - LEFT - gap * len(sizes), LEFT + gap / 2
    for size in sizes:
        width = room * size / sum(sizes)
        yield left, left + width
        left += width + gap


def _named(duet: Duet) -> Iterator[tuple[str, Pair]]:
    """The pairs with their names; numbered where a stage has several."""
    for stage in ("screen", "confirm"):
        pairs = [pair for pair in duet.pairs if pair.stage == stage]
        for index, pair in enumerate(pairs, 1):
            yield f"{stage} {index}" if len(pairs) > 1 else stage, pair


def _pair(name: str, pair: Pair, slot: tuple[float, float], y: Scale) -> Markup:
    """The rounds of a pair, and their median."""
    x = Scale(-0.5, len(pair.changes) - 0.5, *slot)
    middle, centre = quantile(pair.changes, 0.5), sum(slot) / 2
    places = [(x(index), y(value)) for index, value in enumerate(pair.changes) if not y.is_off(value)]
    parts = [dots(places, pair.stage)]
    for index, value in enumerate(pair.changes):
        if y.is_off(value):
            parts.append(arrow(x(index), y(value), "up" if value > 0 else "down"))
    parts.append(line("median", slot[0], y(middle), slot[1], y(middle)))
    if name:
        parts.append(label(name, centre, y.start + 16, "middle"))
        parts.append(label(percent(middle), centre, y.start + 31, "middle strong"))
    return joined(*parts)


def _strip(name: str, style: str, values: Sequence[float], middle: float, x: Scale) -> Markup:
    """One row of dots; their height means nothing, and only keeps them apart."""
    heights = (middle + 22 * ((index * _GOLDEN) % 1 - 0.5) for index in range(len(values)))
    places = [(x(value), at) for value, at in zip(values, heights, strict=True) if not x.is_off(value)]
    off = [value for value in values if x.is_off(value)]
    low, median, high = (quantile(values, part) for part in (0.25, 0.5, 0.75))
    parts = [
        label(name, LEFT - 8, middle + 4, "end"),
        dots(places, style),
        line(f"box {style}", x(low), middle, x(high), middle),
        line("median", x(median), middle - 14, x(median), middle + 14),
        label(shown_duration(median), RIGHT + 40, middle + 4, "end strong"),
    ]
    if off:
        sides = sorted({"right" if value > x.high else "left" for value in off})
        parts += [arrow(x.end if side == "right" else x.start, middle, side) for side in sides]
        told = f"{len(off)} off, to {shown_duration(max(off, key=lambda value: abs(value - median)))}"
        parts.append(label(told, RIGHT + 40, middle + 18, "end muted"))
    return joined(*parts)


def _percent_tick(tick: float, y: Scale) -> str:
    decimals = 0 if y.high - y.low > 0.06 else 1
    shown = f"{tick * 100:+.{decimals}f}%"
    return shown if float(shown.rstrip("%")) else "0%"


def _tolerated(stored: Stored) -> list[float]:
    """The lowest and the highest time that is not a difference; nothing if that is unknown."""
    centre, tolerance = stored.baseline_centre, stored.tolerance
    if centre is None or tolerance is None or centre <= 0 or tolerance <= 0:
        return []
    return [centre * (1 - tolerance), centre * (1 + tolerance)]


def _meaning(duet: Duet) -> str:
    stages = {pair.stage for pair in duet.pairs}
    marks = "ring: screening round; dot: confirming round; " if len(stages) > 1 else ""
    limit = "" if duet.threshold is None else "; band: threshold"
    return f"Change of time, head against base; {marks}line: median of a pair{limit}."


def _told_pairs(duet: Duet, num_rounds: int) -> str:
    medians = ", ".join(f"{name} {percent(quantile(pair.changes, 0.5))}" for name, pair in _named(duet))
    effect = (
        "" if duet.effect is None else f" Overall {percent(duet.effect)} {interval(duet.low, duet.high)}."
    )
    return f"Change of time in {counted(num_rounds, 'paired round')}. Median of each pair: {medians}.{effect}"


def _told_history(stored: Stored) -> str:
    parts = [counted(len(stored.history), "stored run")]
    if stored.history:
        low, high = (_history_value(stored, end) for end in (min(stored.history), max(stored.history)))
        parts.append(f"from {low} to {high}")
    if stored.centre is not None:
        parts.append(f"this run {_history_value(stored, stored.centre)}")
    return f"History. {_history_unit(stored)}: {', '.join(parts)}."


def _history_unit(stored: Stored) -> str:
    is_relative = stored.metric in ("", "cpu")
    return "CPU time in multiples of the reference workload's" if is_relative else f"Time ({stored.metric})"


def _history_value(stored: Stored, value: float) -> str:
    return significant(value) if stored.metric in ("", "cpu") else shown_duration(value)


def _history_ticks(stored: Stored, y: Scale) -> list[tuple[float, str]]:
    if stored.metric in ("", "cpu"):
        return y.labelled_ticks(4)
    return [(tick, shown_duration(max(tick, 0.0))) for tick in y.ticks(4)]
