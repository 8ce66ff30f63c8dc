"""Plots over the course of a run: fragmentation, copies, batches, steps, and traffic with the tiers."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from pagedkv.events import Route
from pagedkv.recording.bins import BinnedSteps
from pagedkv.recording.page.axes import TimeAxis, count_axis, look_edges, size_axis
from pagedkv.recording.run import RunRecord
from pagedkv.report.fluid import Panel, area, bars, fluid_figure, legend, steps, treads
from pagedkv.report.html import Markup
from pagedkv.report.numbers import byte_count, count, duration, percent

__all__ = ["FAIR_BLOCK_SIZE", "course_plots"]

FAIR_BLOCK_SIZE = 16
"""Tokens of the blocks that waste is compared with, as the detector does."""

_MOST_BINS = 320
_HEIGHT = 150.0
_LOW = 62.0
_NS_PER_S = 1e9
_PER_MILLION = 1e6
_ROUTES: dict[Route, str] = {
    "page_out": "device to host",
    "page_in": "host to device",
    "spill": "host to file",
    "fetch": "file to host",
}
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"))
_RATE_UNITS = ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"))


def course_plots(record: RunRecord, axis: TimeAxis) -> Iterator[Markup]:
    """All of them; those of tiers where there are any."""
    binned = record.steps.coarser(_MOST_BINS)
    edges = [axis(record.start_ns), *map(axis, binned.maxima["now_ns"])]
    yield _fragmentation(record, axis)
    if record.looks.moved_bytes:
        yield _traffic(record, axis)
    yield _scatter(record, axis)
    yield _copies(binned, edges, axis)
    yield _batches(binned, edges, axis)
    yield _step_times(binned, edges, axis)


def _fragmentation(record: RunRecord, axis: TimeAxis) -> Markup:
    edges = look_edges(record, axis)
    ratios = [ppm / _PER_MILLION for ppm in record.looks.columns["fragmentation_ppm"]]
    must = _unavoidable(record, ratios)
    size = (record.settings["cache"] or {})["block_size"]
    y, ticks = count_axis(max([*ratios, *must, 0.05]), _HEIGHT, percent)
    mean, mean_must = (sum(each) / max(1, len(each)) for each in (ratios, must))
    fair = min(size, FAIR_BLOCK_SIZE)
    shapes = [
        area("band", treads(edges, [y(each) for each in must]), treads(edges, [y(0)] * len(must))),
        steps("line a", edges, [y(each) for each in ratios]),
    ]
    return fluid_figure(
        "Fragmentation",
        f"Share of the slots in use that hold no token; blocks have {size}. The band is what paging has to "
        f"cost: half a block of {fair} for each sequence.",
        f"Fragmentation: {percent(mean)} on average, of which paging has to cost {percent(mean_must)}.",
        Panel(height=_HEIGHT, y=y, y_ticks=ticks, shapes=shapes),
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(("line a", "wasted"), ("band", "has to be")),
    )


def _unavoidable(record: RunRecord, ratios: Sequence[float]) -> list[float]:
    """What blocks of a fair size would waste, for the same tokens and sequences."""
    size = (record.settings["cache"] or {})["block_size"]
    columns = record.looks.columns
    found = []
    for used, sequences, ratio in zip(columns["num_in_use"], columns["num_sequences"], ratios, strict=True):
        tokens = used * size * (1 - ratio)
        wasted = sequences * (min(size, FAIR_BLOCK_SIZE) - 1) / 2
        found.append(wasted / (tokens + wasted) if wasted else 0.0)
    return found


def _batches(binned: BinnedSteps, edges: Sequence[float], axis: TimeAxis) -> Markup:
    batch, waiting = binned.means("batch_size"), binned.maxima["num_waiting"]
    panels = [
        _panel(edges, batch, _LOW, "sequences in a step", "line a", count),
        _panel(edges, waiting, _LOW, "requests waiting", "line b", count),
    ]
    preempted = binned.total("num_preempted")
    mean = binned.total("batch_size") / max(1, sum(binned.num_steps))
    return fluid_figure(
        "Batch size, and who waits",
        "Mean of some steps each; of those waiting, the most. "
        f"Preempted: {preempted:,} request{'s' * (preempted != 1)}.",
        f"Batch size over time: {mean:.1f} on average, {max(batch, default=0):.1f} at most; up to "
        f"{max(waiting, default=0)} requests waiting, {preempted} preemptions.",
        *panels,
        x=axis.scale,
        x_ticks=axis.ticks,
    )


def _step_times(binned: BinnedSteps, edges: Sequence[float], axis: TimeAxis) -> Markup:
    means = [each / _NS_PER_S for each in binned.means("duration_ns")]
    longest = [each / _NS_PER_S for each in binned.maxima["duration_ns"]]
    y, ticks = size_axis(max(longest, default=0), _HEIGHT, _unit_in(_TIME_UNITS))
    shapes = [
        _filled("worst", edges, [y(each) for each in longest], _HEIGHT),
        steps("line a", edges, [y(each) for each in means]),
    ]
    return fluid_figure(
        "Time of a step",
        "From scheduling a step to committing it: mean and longest of some steps each.",
        f"Step time: the longest took {duration(max(longest, default=0))}.",
        Panel(height=_HEIGHT, y=y, y_ticks=ticks, shapes=shapes),
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(("line a", "mean"), ("worst", "longest")),
    )


def _copies(binned: BinnedSteps, edges: Sequence[float], axis: TimeAxis) -> Markup:
    means, most = binned.means("num_copies"), binned.maxima["num_copies"]
    total, tokens = binned.total("num_copies"), binned.total("num_sampled")
    y, ticks = count_axis(max([*most, 1]), _HEIGHT, _whole)
    shapes = [
        _filled("worst", edges, [y(each) for each in most], _HEIGHT),
        steps("line a", edges, [y(each) for each in means]),
    ]
    each = f", {total / tokens:.3g} for each sampled token" if tokens and total else ""
    return fluid_figure(
        "Blocks copied in a step",
        f"Copies on write and at forks: mean and most of some steps each. In all {total:,}{each}.",
        f"Copies per step: {total} in all{each}, {max(most, default=0)} at most in one step.",
        Panel(height=_HEIGHT, y=y, y_ticks=ticks, shapes=shapes),
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(("line a", "mean"), ("worst", "most")),
    )


def _scatter(record: RunRecord, axis: TimeAxis) -> Markup:
    columns = record.looks.columns
    edges = look_edges(record, axis)
    tables = [milli / 1000 for milli in columns["mean_table_run_milli"]]
    panels = [
        _lined(edges, tables, _LOW, "blocks in a row inside a block table, mean", "line a"),
        _lined(edges, columns["longest_free_run"], _LOW, "longest row of free blocks", "line b"),
    ]
    return fluid_figure(
        "How scattered blocks are",
        "Blocks with consecutive ids. Paging does not need them; copies and page-ins of rows are quicker.",
        f"Mean row inside a table {sum(tables) / max(1, len(tables)):.3g} blocks.",
        *panels,
        x=axis.scale,
        x_ticks=axis.ticks,
    )


def _traffic(record: RunRecord, axis: TimeAxis) -> Markup:
    looks = record.looks
    now, moved = looks.columns["now_ns"], looks.moved_bytes
    used = {route: rates for route in _ROUTES if any(rates := _rates(now, moved[route]))}
    y, ticks = size_axis(max([1.0, *(max(each) for each in used.values())]), _HEIGHT, _unit_in(_RATE_UNITS))
    edges = look_edges(record, axis)
    styles = dict(zip(_ROUTES, ("line a", "line b", "line c", "line d"), strict=True))
    shapes = [steps(styles[route], edges, [y(each) for each in rates]) for route, rates in used.items()]
    pages = looks.columns["num_host_pages"]
    panels = [
        Panel(height=_HEIGHT, y=y, y_ticks=ticks, shapes=shapes),
        _lined(edges, pages, _LOW, "pages on the host", "line a"),
    ]
    if any(looks.columns["num_file_pages"]):
        panels.append(_lined(edges, looks.columns["num_file_pages"], _LOW, "pages in the file", "line c"))
    totals = ", ".join(f"{_ROUTES[route]} {byte_count(moved[route][-1])}" for route in used)
    again = record.steps.total("num_again")
    return fluid_figure(
        "Traffic with the tiers",
        f"Bytes a second between looks. In all: {totals or 'nothing moved'}. "
        f"Pages that came back soon after they had left: {again:,}.",
        f"Traffic with the tiers below the device: {totals or 'none'}.",
        *panels,
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(*((styles[route], _ROUTES[route]) for route in used)),
        class_="full",
    )


def _rates(now_ns: Sequence[int], moved: Sequence[int]) -> list[float]:
    """Bytes a second between two looks."""
    pairs = zip(pairwise(now_ns), pairwise(moved), strict=True)
    return [(more - less) * _NS_PER_S / max(1, end - begin) for (begin, end), (less, more) in pairs]


def _panel(
    edges: Sequence[float],
    values: Sequence[float],
    height: float,
    name: str,
    style: str,
    text: Callable[[float], str],
) -> Panel:
    y, ticks = count_axis(max([*values, 1]), height, text, most=2)
    heights = [y(each) for each in values]
    shapes = [_filled("under", edges, heights, height), steps(style, edges, heights)]
    return Panel(height=height, y=y, y_ticks=ticks, shapes=shapes, name=name)


def _lined(edges: Sequence[float], values: Sequence[float], height: float, name: str, style: str) -> Panel:
    y, ticks = count_axis(max([*values, 1]), height, count, most=2)
    shapes = [steps(style, edges, [y(each) for each in values])]
    return Panel(height=height, y=y, y_ticks=ticks, shapes=shapes, name=name)


def _filled(style: str, edges: Sequence[float], heights: Sequence[float], bottom: float) -> Markup:
    return bars(style, zip(edges, edges[1:], heights, strict=False), bottom)


def _whole(number: float) -> str:
    return count(number) if number == int(number) else ""


def _unit_in(units: Sequence[tuple[float, str]]) -> Callable[[float], tuple[float, str]]:
    return lambda highest: next((each for each in units if highest >= each[0]), units[-1])
