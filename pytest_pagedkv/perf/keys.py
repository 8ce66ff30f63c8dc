"""Names of benchmarks in baseline files: node ids that are the same wherever things are installed."""

import os
from itertools import dropwhile
from pathlib import Path

import pytest

__all__ = ["SUITE", "SUITE_KEY", "benchmark_key", "file_key", "file_of"]

SUITE = Path(__file__).parents[1] / "suite"
"""The shipped performance tests."""

SUITE_KEY = "pytest_pagedkv/suite"


def benchmark_key(item: pytest.Item, root: Path) -> str:
    """The key of a test: its file as `file_key` names it, then the names of class and function."""
    names = [
        node.name for node in dropwhile(lambda node: not isinstance(node, pytest.File), item.listchain())
    ]
    return _as_text("::".join([file_key(item.path, root), *names[1:]]))


def file_key(path: Path, root: Path) -> str:
    """A test file: relative to the root, or under "pytest_pagedkv/suite" if it is a shipped one."""
    if path.is_relative_to(SUITE):
        return f"{SUITE_KEY}/{path.relative_to(SUITE).as_posix()}"
    return _as_text(Path(os.path.relpath(path, root)).as_posix())


def _as_text(key: str) -> str:
    """A file name may have bytes that are no text; baseline files have none."""
    return key.encode(errors="backslashreplace").decode()


def file_of(key: str, root: Path) -> Path:
    """Where the file that a key names would be."""
    file = key.partition("::")[0]
    if file.startswith(SUITE_KEY + "/"):
        return SUITE / file.removeprefix(SUITE_KEY + "/")
    return root / file
