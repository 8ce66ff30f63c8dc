"""Where the real traces are; they are never part of the repository."""

import os
from pathlib import Path

import pytest

__all__ = ["real_trace"]


def real_trace(name: str) -> Path:
    """Path of a real trace; skips the test where it is not at hand."""
    folder = os.environ.get("PAGEDKV_TRACES")
    if not folder:
        pytest.skip("PAGEDKV_TRACES does not name a folder with real traces")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"PAGEDKV_TRACES has no {name}")
    return path
