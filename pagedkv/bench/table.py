"""A run as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from pagedkv.bench.cases import KERNELS
from pagedkv.bench.floors import Limits
from pagedkv.bench.machine import Machine
from pagedkv.bench.results import OURS, Row, Run
from pagedkv.bench.wording import bandwidth, duration, percent, rate, ratios, reasons

__all__ = ["LEGEND", "about", "remarks", "tables"]

_GOOD = 0.9
"""The share of the floor that the GPU kernels aim at."""

LEGEND = (
    "Times with cold caches: best and median call. % of floor: the floor / the best. Error: the largest "
    "|out - ref| / |ref| of any call, against 64 bits; 0 is exact. x NAME: our time / the peer's, below 1 "
    "where we are quicker: median of the rounds, then best calls; where they differ, something disturbed."
)
"""What the columns say."""


def about(machine: Machine, limits: Limits) -> list[tuple[str, str]]:
    """What the machine is, and what it was measured to do."""
    rates = ", ".join(f"{name} {rate(each)}" for name, each in limits.flops_per_s.items())
    return [
        *machine.lines(),
        ("copy", f"{bandwidth(limits.copy_bytes_per_s)}, reading and writing together"),
        ("read", bandwidth(limits.read_bytes_per_s)),
        ("matrix product", rates),
    ]


def tables(run: Run) -> Iterator[Table]:
    """One for each kernel that was measured."""
    for kernel in KERNELS:
        rows = [row for row in run.rows if row.case.kernel == kernel and row.timings]
        if rows:
            yield _table(kernel, rows)


def remarks(run: Run) -> Iterator[tuple[str, str]]:
    """What else there is to say: a text and a style of rich for each line."""
    for row in run.rows:
        for name, problem in row.wrong.items():
            yield f"WRONG  {row.case.kernel}, {row.case.label}: {name}: {problem}", "bold red"
    for row in run.rows:
        if row.reason:
            yield f"not measured: {row.case.kernel}, {row.case.label}: {row.reason}", "yellow"
    for text in reasons(run):
        yield f"without {text}", ""
    if run.is_interrupted:
        yield f"interrupted after {len(run.rows)} of {run.planned} shapes", "bold yellow"


def _table(kernel: str, rows: Sequence[Row]) -> Table:
    peers = dict.fromkeys(name for row in rows for name in row.timings if name != OURS)
    table = Table(title=kernel, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("dtype")
    for name in ("page", "batch", "tokens", *_extra(kernel)):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("best", "median", "floor", "% of floor", "error", *(f"x {peer}" for peer in peers)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_shape(row), *_times(row), *_ratios(row, peers))
    return table


def _extra(kernel: str) -> tuple[str, ...]:
    return {"paged_prefill": ("new",), "paged_decode_shared": ("shared",)}.get(kernel, ())


def _shape(row: Row) -> Iterator[str]:
    case = row.case
    yield case.dtype
    for number in (case.page, case.batch, case.length):
        yield str(number)
    if case.kernel == "paged_prefill":
        yield str(case.query_len)
    if case.kernel == "paged_decode_shared":
        yield str(case.prefix)


def _times(row: Row) -> Iterator[Text]:
    ours, share = row.ours, row.floor_ratio
    if ours is None or share is None:
        word = "WRONG" if OURS in row.wrong else ""
        yield from (
            Text(word, style="bold red"),
            Text(""),
            Text(duration(row.floor.seconds)),
            Text(""),
            Text(""),
        )
        return
    yield Text(duration(ours.best_s))
    yield Text(duration(ours.median_s))
    yield Text(duration(row.floor.seconds))
    yield Text(percent(share), style="bold green" if share >= _GOOD else "bold")
    yield Text(f"{ours.error:.1e}" if ours.error else "0")


def _ratios(row: Row, peers: Mapping[str, None]) -> Iterator[str]:
    found = row.ratios
    for peer in peers:
        yield ratios(found[peer]) if peer in found else ""
