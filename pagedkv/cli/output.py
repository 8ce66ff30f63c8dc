"""What commands print: JSON, tables, and a progress bar while they work."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["print_json", "print_table", "printable", "progress_bar"]


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(values, indent=2) + "\n")


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values on stdout, values to the right; colour only where the terminal has it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 3))
    table.add_column()
    table.add_column(justify="right", style="bold")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as shown:  # writing is left to us: rich ends the process when a pipe breaks
        console.print(Text(printable(title), style="bold"), soft_wrap=True)
        console.print(table)
    sys.stdout.write(shown.get())


def printable(text: str) -> str:
    """The text on one line, with escapes for what stdout cannot show."""
    encoding = sys.stdout.encoding or "ascii"
    return " ".join(text.splitlines()).encode(encoding, "backslashreplace").decode(encoding)


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
