"""A comparison for a terminal: a block of lines for each benchmark, worst first."""

import os
import shutil
import sys
from collections.abc import Iterator

from pagedkv.cli.output import Line
from pytest_pagedkv.baselines.commands.changes import Change, Comparison, Kind
from pytest_pagedkv.baselines.commands.moves import Move, size

__all__ = ["as_lines", "name_lines"]

_STYLES = {"worse": "bold red", "better": "green", "gone": "yellow", "new": "cyan", "changed": "yellow"}
_INDENT = "  "


def as_lines(comparison: Comparison) -> Iterator[Line]:
    """The lines, each as texts with styles."""
    yield [(f"{comparison.before} -> {comparison.after}", "bold")]
    for title, changes in comparison.groups():
        yield []
        if title:
            yield [(title, "bold")]
        for change in changes:
            yield from _block(change)
    if comparison.notes:
        yield []
    for note in comparison.notes:
        yield [("note     ", ""), (note, "")]
    yield []
    yield [(comparison.summary(), "bold")]


def name_lines(word: str, key: str, about: str = "") -> Iterator[Line]:
    """A word and a benchmark, on two lines if the terminal is too narrow for one."""
    head = (f"{word:7}  ", _STYLES.get(word, ""))
    if len(head[0] + key + about) <= _width() or "::" not in key:
        yield [head, (key, ""), (about, "dim")]
        return
    file, _, test = key.partition("::")
    yield [head, (f"{file}::", "")]
    yield [(" " * len(head[0]) + test, ""), (about, "dim")]


def _block(change: Change) -> Iterator[Line]:
    side = change.after if change.before is None else change.before
    about = ""
    if change.kind in (Kind.NEW, Kind.GONE) and side is not None:
        about = f"   {size(side)}"
    yield from name_lines(change.kind or Kind.REASON, change.place.key, about)
    yield from _moves(change.moves)
    if change.reason is not None:
        yield [(f"{_INDENT}reason: {change.reason}", "")]
    elif change.kind is Kind.REASON:
        yield [(f"{_INDENT}its reason is withdrawn", "")]


def _moves(found: list[Move]) -> Iterator[Line]:
    """A row for each, in columns."""
    rows = [(move.name, move.sides[0], "->", move.sides[1], move.percent) for move in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for move, (name, *numbers) in zip(found, rows, strict=True):
        cells = (f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        remark = f", {move.remark}" if move.remark else ""
        yield [
            (f"{_INDENT}{name:<{widths[0]}}  {' '.join(cells)}  ", ""),
            (move.verdict.value, _STYLES.get(move.verdict, "")),
            (remark, ""),
        ]


def _width() -> int:
    """Columns of the terminal; without one, nothing is too long."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return sys.maxsize
