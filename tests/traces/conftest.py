"""Trace files for tests."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

WriteLines = Callable[..., Path]


@pytest.fixture
def write_lines(tmp_path: Path) -> WriteLines:
    """Write lines to a file, objects as JSON; returns its path."""

    def write(*lines: object, name: str = "trace.txt", end: str = "\n") -> Path:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path = tmp_path / name
        path.write_bytes(("\n".join(texts) + end).encode())
        return path

    return write


@pytest.fixture
def write_csv(write_lines: WriteLines) -> WriteLines:
    """Write a header and rows as comma-separated values; returns the path."""

    def write(header: Sequence[str], *rows: Sequence[object], end: str = "\n") -> Path:
        return write_lines(*(",".join(map(str, row)) for row in (header, *rows)), end=end)

    return write
