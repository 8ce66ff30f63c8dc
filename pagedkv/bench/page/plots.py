"""The plots: share of the floor, ratio to peers, time against length."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pagedkv.bench.cases import ELEMENT_BYTES, KERNELS, Case
from pagedkv.bench.page.style import series_style
from pagedkv.bench.results import OURS, Row, Run
from pagedkv.bench.wording import duration, percent, ratio, round_duration
from pagedkv.report.axis import Scale, quantile
from pagedkv.report.html import Markup
from pagedkv.report.marks import LEFT, WIDTH, arrow, dots, figure, label, line, polyline, x_axis, y_axis

__all__ = ["grouped", "length_plots", "ratio_plot", "share_plot"]

_NAMES_END = 214
_STRIPS_END = 570
_ROW = 26
_GOLDEN = 0.618
_MOST_SHARE = 1.5
_LINES_END = 500
_LINE_HEIGHT = 15
_GOAL = 0.9
_SPREAD = 10


@dataclass(frozen=True, slots=True)
class _Strip:
    """A row of dots."""

    name: str
    style: str
    values: Sequence[float]


def share_plot(run: Run) -> Markup:
    """Each shape a dot at its share of the floor, kernel by kernel; nothing if none of ours was right."""
    strips = [
        _Strip(f"{kernel} {dtype}", "s0", [share for row in rows if (share := row.floor_ratio) is not None])
        for (kernel, dtype), rows in grouped(run)
    ]
    strips = [strip for strip in strips if strip.values]
    if not strips:
        return Markup("")
    highest = max(max(strip.values) for strip in strips)
    x = Scale(0.0, max(1.05, min(highest * 1.03, _MOST_SHARE)), _NAMES_END, _STRIPS_END)
    bottom = 10 + _ROW * len(strips)
    parts = [
        x_axis(x, [(tick, f"{tick:.0%}") for tick in x.ticks()], bottom),
        line("goal", x(_GOAL), 4, x(_GOAL), bottom),
        line("zero", x(1.0), 4, x(1.0), bottom),
        *_strips(strips, x, percent),
    ]
    caption = (
        "Least time that this machine needs / our best time. Each dot is a shape, the tick their median. "
        "Dashed: 90%, the aim on a GPU."
    )
    told = "; ".join(f"{strip.name}: median {percent(quantile(strip.values, 0.5))}" for strip in strips)
    return figure("Share of the floor", caption, f"Share of the floor. {told}.", bottom + 24, *parts)


def ratio_plot(run: Run, kernel: str) -> Markup:
    """Each shape a dot at our time over a peer's, by dtype and peer; nothing without peers."""
    strips = list(_ratio_strips(run, kernel))
    if not strips:
        return Markup("")
    powers = [math.log2(value) for strip in strips for value in strip.values]
    low, high = max(min(-1, math.floor(min(powers))), -5), min(max(1, math.ceil(max(powers))), 6)
    x = Scale(low, high, _NAMES_END, _STRIPS_END)
    bottom = 10 + _ROW * len(strips)
    parts = [
        x_axis(x, [(float(power), f"{2.0**power:g}x") for power in range(low, high + 1)], bottom),
        line("zero", x(0.0), 4, x(0.0), bottom),
        *_strips([_logarithmic(strip) for strip in strips], x, lambda power: f"{ratio(2.0**power)}x"),
    ]
    caption = (
        "Our time / the peer's in the same run: left of 1x we are quicker. Each dot is the median of a shape."
    )
    told = "; ".join(f"{strip.name}: median {ratio(quantile(strip.values, 0.5))}" for strip in strips)
    return figure("Against peers", caption, f"Our time over that of peers. {told}.", bottom + 24, *parts)


def length_plots(run: Run, kernel: str) -> Iterator[Markup]:
    """Time against length, a plot for each dtype and batch on the smallest page, if lengths differ."""
    rows = [row for row in run.rows if row.case.kernel == kernel and row.timings]
    page = min((row.case.page for row in rows), default=0)
    for name, found in groupby(
        sorted(rows, key=lambda row: _series_key(row.case)), lambda row: _title(row.case)
    ):
        series = [row for row in found if row.case.page == page]
        if len({row.case.length for row in series}) > 1:
            yield _length_plot(name, sorted(series, key=lambda row: row.case.length))


def grouped(run: Run) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    """The rows by kernel and dtype."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(run.rows, key=lambda row: KERNELS.index(row.case.kernel)):
        found.setdefault((row.case.kernel, row.case.dtype), []).append(row)
    yield from found.items()


def _ratio_strips(run: Run, kernel: str) -> Iterator[_Strip]:
    for (name, dtype), rows in grouped(run):
        peers = list(dict.fromkeys(peer for row in rows for peer in row.ratios)) if name == kernel else []
        for index, peer in enumerate(peers, 1):
            values = [row.ratios[peer].paired for row in rows if peer in row.ratios]
            yield _Strip(f"{dtype} / {peer}", series_style(index), values)


def _logarithmic(strip: _Strip) -> _Strip:
    return _Strip(strip.name, strip.style, [math.log2(value) for value in strip.values])


def _strips(strips: Sequence[_Strip], x: Scale, shown: Callable[[float], str]) -> Iterator[Markup]:
    for index, strip in enumerate(strips):
        middle = 10 + _ROW * (index + 0.5)
        spread = (_SPREAD * ((number * _GOLDEN) % 1 - 0.5) for number in range(len(strip.values)))
        places = [
            (x(value), middle + up)
            for value, up in zip(strip.values, spread, strict=True)
            if not x.is_off(value)
        ]
        median = quantile(strip.values, 0.5)
        yield label(strip.name, _NAMES_END - 10, middle + 4, "end")
        yield dots(places, strip.style)
        yield line("median", x(median), middle - 9, x(median), middle + 9)
        yield label(shown(median), WIDTH - 4, middle + 4, "end strong")
        for side, edge in (("right", x.end), ("left", x.start)):
            if any(x.is_off(value) and (value > x.high) == (side == "right") for value in strip.values):
                yield arrow(edge, middle, side)


def _series_key(case: Case) -> tuple[int, int, bool, int]:
    return (
        list(ELEMENT_BYTES).index(case.dtype),
        case.batch,
        case.query_len == case.length,
        case.query_len if _is_chunk(case) else 0,
    )


def _is_chunk(case: Case) -> bool:
    return case.kernel == "paged_prefill" and case.query_len < case.length


def _title(case: Case) -> str:
    new = f", last {case.query_len} tokens new" if _is_chunk(case) else ""
    return f"{case.dtype}, batch {case.batch}{new}"


def _length_plot(name: str, rows: Sequence[Row]) -> Markup:
    """Both axes logarithmic; the names of the lines are at their ends."""
    top, bottom = 12, 220
    series = _series(rows)
    times = [math.log10(time) for places in series.values() for _, time in places]
    low, high = min(times), max(times)
    margin = 0.06 * (high - low) or 0.5
    x = Scale(math.log2(rows[0].case.length), math.log2(rows[-1].case.length), LEFT + 14, _LINES_END)
    y = Scale(low - margin, high + margin, bottom, top)
    lengths = dict.fromkeys(row.case.length for row in rows)
    parts = [
        x_axis(x, [(math.log2(length), f"{length:,}") for length in lengths], bottom),
        y_axis(y, _time_ticks(y), right=_LINES_END),
    ]
    pixels = {
        one: [(x(math.log2(length)), y(math.log10(time))) for length, time in places]
        for one, places in series.items()
    }
    styles = _styles(list(series))
    for one in reversed(list(series)):  # ours on top of the others
        parts += [polyline(f"trace {styles[one]}", pixels[one]), *_dots_of(pixels[one], styles[one])]
    parts += _names({one: places[-1][1] for one, places in pixels.items()}, styles)
    page = rows[0].case.page
    caption = f"Best time of a call against tokens of a sequence, page {page}; both axes are logarithmic."
    told = "; ".join(
        f"{one}: " + ", ".join(f"{length} tokens {duration(time)}" for length, time in places)
        for one, places in series.items()
    )
    return figure(name, caption, f"Time against length. {told}.", bottom + 24, *parts)


def _dots_of(places: Sequence[tuple[float, float]], style: str) -> list[Markup]:
    return [] if style == "floor" else [dots(places, style)]


def _series(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    """Lengths and seconds of each contestant, ours first, and of the floor."""
    names = dict.fromkeys(name for row in rows for name in sorted(row.timings, key=lambda name: name != OURS))
    found = {
        name: [(row.case.length, row.timings[name].best_s) for row in rows if name in row.timings]
        for name in names
    }
    return found | {"floor": [(row.case.length, row.floor.seconds) for row in rows]}


def _styles(names: Sequence[str]) -> dict[str, str]:
    peers = [name for name in names if name not in (OURS, "floor")]
    styles = {name: series_style(index) for index, name in enumerate(peers, 1)}
    return styles | {OURS: "s0", "floor": "floor"}


def _time_ticks(y: Scale) -> list[tuple[float, str]]:
    """1, 2 and 5 times each power of ten on the scale; the powers alone if that is too many."""
    powers = range(math.floor(y.low), math.ceil(y.high) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        seconds = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [(math.log10(each), round_duration(each)) for each in seconds]
        ticks = [tick for tick in ticks if y.low <= tick[0] <= y.high]
        if len(ticks) <= 8:
            break
    return ticks


def _names(heights: Mapping[str, float], styles: Mapping[str, str]) -> Iterator[Markup]:
    """Beside the ends of the lines, apart where those meet."""
    at = 0.0
    for name, height in sorted(heights.items(), key=lambda each: each[1]):
        at = max(at, height + 4)
        style = "muted" if name == "floor" else f"t{styles[name][1:]}"
        yield label(name, _LINES_END + 12, at, style)
        at += _LINE_HEIGHT
