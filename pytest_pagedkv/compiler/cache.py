"""Figures of variants that were compiled before, one small file each."""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pytest_pagedkv.compiler.resources import Resources

__all__ = ["Cache"]


class Cache:
    """A folder of figures. What cannot be read in it is not there.

    Args:
        folder: it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Resources | None:
        """The figures under this key, if they are there and whole."""
        try:
            return Resources.from_plain(json.loads(self._path(key).read_bytes()))
        except (OSError, ValueError, AttributeError):
            return None

    def put(self, key: str, resources: Resources) -> None:
        """Keep figures; a folder that cannot be written keeps nothing."""
        path = self._path(key)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(asdict(resources)))
            temporary.replace(path)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
