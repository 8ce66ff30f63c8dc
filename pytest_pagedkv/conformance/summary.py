"""What the suites did, for the end of a run."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

__all__ = ["write"]


def write(terminal: pytest.TerminalReporter, records: Iterable[Mapping[str, Any]]) -> None:
    """Print programs, calls and situations, so that what a green run has looked at can be seen.

    Args:
        terminal: pytest's reporter.
        records: what the suites recorded as `pagedkv_conformance`.
    """
    terminal.section("pagedkv conformance")
    for record in records:
        terminal.line(
            f"{record['adapter']}: {record['what']}: {record['programs']:,} programs, "
            f"{record['operations']:,} calls"
        )
        for heading in ("rules", "scenarios"):
            counts = sorted(record[heading].items(), key=lambda item: -item[1])
            if counts:
                _fill(terminal, [f"{count:,} {name}" for name, count in counts])


def _fill(terminal: pytest.TerminalReporter, parts: Iterable[str]) -> None:
    """Print parts as lines that fit the terminal."""
    width = max(60, terminal._tw.fullwidth - 1)  # noqa: SLF001 - pytest has no other way to ask
    line = "   "
    for part in parts:
        if len(line) + len(part) + 3 > width and line.strip():
            terminal.line(line)
            line = "   "
        line += f" {part};"
    terminal.line(line.rstrip(";"))
