"""Baselines whose test is gone: only what is certain."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Collected", "stale_keys"]


@dataclass(slots=True)
class Collected:
    """What a run saw of the tests before anything was deselected.

    Attributes:
        keys: all benchmarks that were collected.
        files: test files that were collected whole, as keys name them.
        folders: absolute paths that were collected whole.
    """

    keys: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def stale_keys(stored: Iterable[str], seen: Collected, locate: Callable[[str], Path]) -> list[str]:
    """The stored keys that no test has any more: its file was collected whole, or is gone from such a folder.

    Args:
        stored: keys of the baselines.
        seen: what was collected.
        locate: the path on disk of the file that a key names.
    """
    keys, files = set(seen.keys), set(seen.files)
    folders = [Path(folder) for folder in seen.folders]

    def is_stale(key: str) -> bool:
        if key.partition("::")[0] in files:
            return key not in keys
        path = locate(key)
        return not path.exists() and any(path.is_relative_to(folder) for folder in folders)

    return [key for key in sorted(stored) if is_stale(key)]
