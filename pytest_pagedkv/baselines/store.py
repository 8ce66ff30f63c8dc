"""What is stored of benchmarks in any environment, above all counters, and how it is changed."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pytest_pagedkv.baselines.folder import Folder
from pytest_pagedkv.baselines.locking import locked
from pytest_pagedkv.baselines.schema import Entry, parse, render

__all__ = ["Baselines", "Store"]

E = TypeVar("E")


class Store(Generic[E]):
    """The entries stored under `<directory>/<kind>/`, one file per stem of a test file, or all in one file.

    Args:
        directory: the folder of all kinds; it need not exist.
        shown: its name in messages.
        kind: the sub-folder.
        parse: reads the bytes of a file, whose name is for messages.
        render: the text of a file.
        only: the one file, or "" for one per stem.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """

    def __init__(
        self,
        directory: Path,
        shown: str,
        kind: str,
        parse: Callable[[bytes, str], dict[str, E]],
        render: Callable[[Mapping[str, E]], str],
        only: str = "",
    ) -> None:
        self.directory = directory
        self.shown = shown
        self._folder = Folder(directory / kind, f"{shown}/{kind}", parse, render, only)
        self._entries = self._folder.read()

    def keys(self) -> Collection[str]:
        """The benchmarks that have an entry."""
        return self._entries.keys()

    def get(self, key: str) -> E | None:
        """The entry of a benchmark, if there is one."""
        return self._entries.get(key)

    def shown_file(self, key: str) -> str:
        """The file that holds this benchmark, as messages name it."""
        return f"{self._folder.shown}/{self._folder.file_of(key)}"

    def with_changes(self, changes: Mapping[str, E | None]) -> dict[str, str]:
        """Names and texts of the files that these changes touch; None removes an entry."""
        file_of = self._folder.file_of
        names = {file_of(key) for key in changes}
        entries = _changed(self._entries, changes)
        return {
            name: self._folder.render({k: e for k, e in entries.items() if file_of(k) == name})
            for name in sorted(names)
        }

    def by_file(self, changes: Mapping[str, E | None]) -> list[dict[str, E | None]]:
        """The changes in parts, one for each file, to be written one by one."""
        parts: dict[str, dict[str, E | None]] = {}
        for key in sorted(changes):
            parts.setdefault(self._folder.file_of(key), {})[key] = changes[key]
        return [parts[name] for name in sorted(parts)]

    def write(self, changes: Mapping[str, E | None]) -> None:
        """Make these changes on disk; a file that loses its last entry is removed.

        What another process has stored since these entries were read stays, but for the changed entries.

        Raises:
            BaselineError: a file cannot be written, or is no baseline file any more; it is as it was.
        """
        for part in self.by_file(changes):
            name = self._folder.file_of(next(iter(part)))
            with self._folder.naming(name), locked(self.directory):
                self._folder.replace(name, _changed(self._folder.read_file(name), part))

    def check_writable(self, keys: Iterable[str]) -> None:
        """Try whether the files of these benchmarks, and new ones, could be written.

        Raises:
            BaselineError: one could not.
        """
        self._folder.check_writable({self._folder.file_of(key) for key in keys})


class Baselines(Store[Entry]):
    """The stored counters.

    Args:
        directory: the folder of all kinds; it need not exist.
        shown: its name in messages.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """

    def __init__(self, directory: Path, shown: str) -> None:
        super().__init__(directory, shown, "counters", parse, render)


def _changed(entries: Mapping[str, E], changes: Mapping[str, E | None]) -> dict[str, E]:
    changed: dict[str, E | None] = {**entries, **changes}
    return {key: entry for key, entry in changed.items() if entry is not None}
