"""A comparison for a pull request: a table of what moved, worst first, the long rest folded away."""

import re
from collections.abc import Iterator, Sequence

from pagedkv.cli.output import printable
from pytest_pagedkv.baselines.commands.changes import Change, Comparison, Kind
from pytest_pagedkv.baselines.commands.moves import Move, size
from pytest_pagedkv.baselines.wording import counted

__all__ = ["as_markdown", "code"]

_MAX_ROWS = 20
_MAX_NAMES = 5
_HEAD = ("| | benchmark | counter | before | after | |", "|:--|:--|:--|--:|--:|--:|")


def as_markdown(comparison: Comparison) -> str:
    """The text, in the dialect of GitHub; what is not ours stands in code, where nothing has a meaning."""
    blocks = [
        f"**Performance baselines**: {code(comparison.before)} to {code(comparison.after)}",
        f"**{comparison.summary()}**",
        *(block for title, changes in comparison.groups() for block in _group(title, changes)),
        *_folded(counted(len(comparison.notes), "note"), [f"- {code(note)}" for note in comparison.notes], 0),
    ]
    return "\n\n".join(blocks) + "\n"


def code(text: str) -> str:
    """A code span that shows this text wherever it stands, in a table too."""
    text = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def _group(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if title:
        yield f"**{code(title)}**"
    yield from _tables([change for change in changes if change.before and change.after])
    yield from _names(Kind.NEW, changes)
    yield from _names(Kind.GONE, changes)


def _tables(changes: Sequence[Change]) -> Iterator[str]:
    """A table that is always there, and the rest: a benchmark is in one or the other."""
    shown, rest = list(_HEAD), list(_HEAD)
    for change in changes:
        table = shown if len(shown) < _MAX_ROWS else rest
        table.extend(_rows(change))
    if len(shown) > len(_HEAD):
        yield "\n".join(shown)
    if num_rows := len(rest) - len(_HEAD):
        yield from _folded(f"{counted(num_rows, 'row')} more", rest, 0)


def _rows(change: Change) -> list[str]:
    """A row for each counter and one for the reason; the first has the benchmark's name."""
    rows = [(move.verdict.value, _name(move), *_numbers(move)) for move in change.moves]
    if change.reason is not None:
        rows.append(("reason", code(change.reason), "", "", ""))
    elif change.kind is Kind.REASON:
        rows.append(("reason", "withdrawn", "", "", ""))
    names = [code(change.place.key), *[""] * (len(rows) - 1)]
    return [_row(word, name, *cells) for name, (word, *cells) in zip(names, rows, strict=True)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _name(move: Move) -> str:
    return code(move.name) + (f" ({move.remark})" if move.remark else "")


def _numbers(move: Move) -> tuple[str, str, str]:
    return *move.sides, move.percent.replace("<", "&lt;")


def _names(kind: Kind, changes: Sequence[Change]) -> Iterator[str]:
    found = [change for change in changes if change.kind is kind]
    lines = [f"- {kind}: {code(change.place.key)}{_size(change)}" for change in found]
    yield from _folded(f"{len(found)} {kind}", lines, _MAX_NAMES)


def _size(change: Change) -> str:
    return "" if change.after is None else f", {size(change.after)}"


def _folded(summary: str, lines: Sequence[str], max_lines: int) -> Iterator[str]:
    """The lines, folded away if there are more than so many."""
    text = "\n".join(lines)
    if len(lines) > max_lines:
        yield f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
    elif lines:
        yield text
