"""What commands print: JSON, tables, and a progress bar while they work."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "Line",
    "print_json",
    "print_lines",
    "print_rich",
    "print_table",
    "printable",
    "progress_bar",
    "terminal_width",
]

Line = Iterable[tuple[str, str]]
"""A line of a terminal: texts, each with a style as rich names it, or ""."""
_WIDEST = 240
_WITHOUT_TERMINAL = 100


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(values, indent=2) + "\n")


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values on stdout, values to the right; colour only where the terminal has it.

    A name and its value stay on one line, however narrow the terminal.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 3))
    table.add_column()
    table.add_column(justify="right", style="bold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console = Console(file=sys.stdout, highlight=False, width=_WIDEST)
    with console.capture() as shown:  # writing is left to us: rich ends the process when a pipe breaks
        console.print(Text(printable(title), style="bold"), soft_wrap=True)
        console.print(table)
    sys.stdout.write(shown.get())


def print_lines(lines: Iterable[Line]) -> None:
    """Print lines on stdout, however long; colour only where the terminal has it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as shown:
        for line in lines:
            console.print(Text.assemble(*((printable(text), style) for text, style in line)), soft_wrap=True)
    sys.stdout.write(shown.get())


def terminal_width() -> int:
    """Characters in a line of stdout's terminal; 100 where there is none."""
    from rich.console import Console

    return Console(file=sys.stdout).width if sys.stdout.isatty() else _WITHOUT_TERMINAL


def print_rich(what: "RenderableType", width: int | None = None) -> None:
    """Print something of rich's on stdout, so wide or as wide as it is; colour where the terminal has it."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, width=width or _WIDEST)
    with console.capture() as shown:
        console.print(what, soft_wrap=True)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in shown.get().splitlines()))


def printable(text: str) -> str:
    """The text on one line, with escapes for what stdout cannot show and for what steers a terminal."""
    encoding = sys.stdout.encoding or "ascii"
    shown = "".join(each if each.isprintable() else _escape(each) for each in " ".join(text.splitlines()))
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _escape(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode()


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, moved by calling what this yields with (done, total); None if nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
