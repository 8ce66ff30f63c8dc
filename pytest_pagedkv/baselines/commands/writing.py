"""Dropping benchmarks from the files of all kinds."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pytest_pagedkv.baselines.commands.snapshot import ENVIRONMENT, folders
from pytest_pagedkv.baselines.folder import Folder
from pytest_pagedkv.baselines.locking import locked

__all__ = ["drop"]


def drop(directory: Path, shown: str, keys: Collection[str]) -> None:
    """Drop benchmarks from all files of a folder of baselines, after trying whether they can be written.

    A file that loses its last line is removed, and so is an environment without timings.

    Raises:
        BaselineError: a file cannot be written, and is as it was.
    """
    found = [(folder, _names(folder, keys)) for _, _, folder in folders(directory, shown)]
    touched = [(folder, names) for folder, names in found if names]
    for folder, names in touched:
        folder.check_writable(names)
    for folder, names in touched:
        with folder.naming(""), locked(directory):
            for name in names:
                entries = folder.read_file(name)
                folder.replace(name, {key: entry for key, entry in entries.items() if key not in keys})
            if not folder.read(but=ENVIRONMENT):
                (folder.path / ENVIRONMENT).unlink(missing_ok=True)


def _names(folder: Folder[Any], keys: Collection[str]) -> list[str]:
    """The files that have one of these benchmarks."""
    return sorted({folder.file_of(key) for key in folder.read(but=ENVIRONMENT) if key in keys})
