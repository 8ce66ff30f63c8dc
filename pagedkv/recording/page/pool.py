"""Plots of the pool: which blocks are in which state, how many, and how often they are referred to."""

from collections.abc import Iterator, Sequence

from pagedkv.recording.looks import REF_COUNTS, Looks
from pagedkv.recording.page.axes import TimeAxis, count_axis, look_edges
from pagedkv.recording.run import RunRecord
from pagedkv.report.axis import Scale
from pagedkv.report.fluid import ACROSS, Panel, area, fluid_figure, legend, treads
from pagedkv.report.html import Markup, element, void
from pagedkv.report.numbers import count, percent

__all__ = ["pool_plots"]

_STATES = (("s", "shared"), ("u", "in-use"), ("c", "cached"))
_KEYS = (
    ("shared", "in use, shared"),
    ("in-use", "in use"),
    ("cached", "free, content kept"),
    ("free", "free"),
)
_HEIGHT = 150.0
_MAP_HEIGHT = 256.0


def pool_plots(record: RunRecord, axis: TimeAxis) -> Iterator[Markup]:
    """Pool map, blocks by state, reference counts."""
    yield _map(record, axis)
    yield _by_state(record, axis)
    yield _ref_counts(record, axis)


def _map(record: RunRecord, axis: TimeAxis) -> Markup:
    looks, num_blocks = record.looks, _num_blocks(record)
    cells, edges = looks.cells, look_edges(record, axis)
    num_cells = len(cells[0]) if cells else 1
    whole = element(
        "svg",
        void("rect", class_="free", width=ACROSS, height=num_cells),
        *(_runs(letter, style, cells, edges) for letter, style in _STATES),
        viewBox=f"0 0 {ACROSS:g} {num_cells}",
        preserveAspectRatio="none",
        class_="map",
        width=ACROSS,
        height=_MAP_HEIGHT,
    )
    y = Scale(0, num_blocks, 0, _MAP_HEIGHT)
    panel = Panel(height=_MAP_HEIGHT, y=y, y_ticks=[(at, count(at)) for at in y.ticks(5)], shapes=[whole])
    per_cell = num_blocks / num_cells
    which = "one block" if per_cell == 1 else f"about {per_cell:.3g} blocks, in the state of most of them"
    return fluid_figure(
        "Pool map",
        f"Blocks by id, from top to bottom, over time since the run began. Each cell is {which}.",
        f"Map of {num_blocks} blocks over time. {_mean_shares(looks, num_blocks)}",
        panel,
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(*_KEYS),
        class_="full",
    )


def _runs(letter: str, style: str, cells: Sequence[str], edges: Sequence[float]) -> Markup:
    """All cells of a state as strokes along time, one for each stretch in which a cell stays in it."""
    xs = [round(at) for at in edges]
    strokes = []
    for place, row in enumerate(map("".join, zip(*cells, strict=True))):
        start, before = row.find(letter), None
        while start >= 0:
            stop = len(row) - len(row[start:].lstrip(letter))
            move = f"M{xs[start]} {place}" if before is None else f"m{xs[start] - before} 0"
            strokes.append(f"{move}h{xs[stop] - xs[start]}")
            start, before = row.find(letter, stop), xs[stop]
    if not strokes:
        return Markup("")
    return void("path", class_=f"m {style}", d="".join(strokes), transform="translate(0 .5)")


def _by_state(record: RunRecord, axis: TimeAxis) -> Markup:
    columns, num_blocks = record.looks.columns, _num_blocks(record)
    shared, cached = columns["num_shared"], columns["num_cached"]
    own = [used - each for used, each in zip(columns["num_in_use"], shared, strict=True)]
    layers = [("shared", shared), ("in-use", own), ("cached", cached)]
    y, ticks = count_axis(num_blocks, _HEIGHT, count)
    return fluid_figure(
        "Blocks by state",
        f"Blocks of {num_blocks:,} when a step began. What is not coloured is free and has no content.",
        f"Blocks by state over time. {_mean_shares(record.looks, num_blocks)}",
        Panel(height=_HEIGHT, y=y, y_ticks=ticks, shapes=_stacked(layers, look_edges(record, axis), y)),
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(*_KEYS[:3]),
    )


def _ref_counts(record: RunRecord, axis: TimeAxis) -> Markup:
    found = record.looks.ref_counts
    layers = [(f"r{index}", found[name]) for index, name in enumerate(REF_COUNTS)]
    used = [index for index, (_, values) in enumerate(layers) if any(values)]
    y, ticks = count_axis(max(record.looks.columns["num_in_use"], default=0), _HEIGHT, count)
    names = list(REF_COUNTS)
    keys = [(f"r{index}", f"{names[index]} ref{'s' * (index > 0)}") for index in used]
    shared = [names[index] for index in used if index]
    told = f"Some blocks had {' and '.join(shared)} references." if shared else "No block was shared."
    most = record.steps.maxima["max_ref_count"]
    return fluid_figure(
        "Blocks by reference count",
        "Blocks in use when a step began, by how many sequences refer to them. "
        f"Most references that a block gained: {max(most, default=0) or 1}.",
        f"Blocks by reference count over time. {told}",
        Panel(height=_HEIGHT, y=y, y_ticks=ticks, shapes=_stacked(layers, look_edges(record, axis), y)),
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(*keys),
    )


def _stacked(layers: Sequence[tuple[str, Sequence[int]]], edges: Sequence[float], y: Scale) -> list[Markup]:
    """Areas on top of each other, the first one below."""
    below = [0] * len(layers[0][1])
    shapes = []
    for style, values in layers:
        above = [low + value for low, value in zip(below, values, strict=True)]
        upper, lower = (treads(edges, [y(height) for height in each]) for each in (above, below))
        shapes += [area(style, upper, lower)] if any(values) else []
        below = above
    return shapes


def _mean_shares(looks: Looks, num_blocks: int) -> str:
    total = max(1, len(looks)) * num_blocks
    names = {"num_in_use": "in use", "num_shared": "shared", "num_cached": "free with content kept"}
    shares = (f"{percent(sum(looks.columns[name]) / total)} {told}" for name, told in names.items())
    return f"On average {', '.join(shares)}."


def _num_blocks(record: RunRecord) -> int:
    return int((record.settings["cache"] or {})["num_blocks"])
