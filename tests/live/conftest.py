"""Folders for sockets, whose paths have to be short."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path."""
    path = Path(tempfile.mkdtemp(prefix="pkv-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
