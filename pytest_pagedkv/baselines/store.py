"""The stored counters, and how they are changed."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pytest_pagedkv.baselines.folder import Folder, file_name, write_atomic
from pytest_pagedkv.baselines.locking import locked
from pytest_pagedkv.baselines.schema import Entry, parse, render

__all__ = ["Baselines", "write_atomic"]


class Baselines:
    """The counters stored under `<directory>/counters/`, one file per stem of a test file.

    Args:
        directory: the folder; it need not exist.
        shown: its name in messages.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """

    def __init__(self, directory: Path, shown: str) -> None:
        self.directory = directory
        self.shown = shown
        self._folder = Folder(directory / "counters", f"{shown}/counters", parse, render)
        self._entries = self._folder.read()

    def keys(self) -> Collection[str]:
        """The benchmarks that have a baseline."""
        return self._entries.keys()

    def get(self, key: str) -> Entry | None:
        """The baseline of a benchmark, if there is one."""
        return self._entries.get(key)

    def shown_file(self, key: str) -> str:
        """The file that holds this benchmark, as messages name it."""
        return f"{self._folder.shown}/{file_name(key)}"

    def with_changes(self, changes: Mapping[str, Entry | None]) -> dict[str, str]:
        """Names and texts of the files that these changes touch; None removes an entry."""
        names = {file_name(key) for key in changes}
        entries = _changed(self._entries, changes)
        return {
            name: render({k: e for k, e in entries.items() if file_name(k) == name}) for name in sorted(names)
        }

    def by_file(self, changes: Mapping[str, Entry | None]) -> list[dict[str, Entry | None]]:
        """The changes in parts, one for each file, to be written one by one."""
        parts: dict[str, dict[str, Entry | None]] = {}
        for key in sorted(changes):
            parts.setdefault(file_name(key), {})[key] = changes[key]
        return [parts[name] for name in sorted(parts)]

    def write(self, changes: Mapping[str, Entry | None]) -> None:
        """Make these changes on disk; a file that loses its last entry is removed.

        What another process has stored since these baselines were read stays, but for the changed entries.

        Raises:
            BaselineError: a file cannot be written, or is no baseline file any more; it is as it was.
        """
        for part in self.by_file(changes):
            name = file_name(next(iter(part)))
            with self._folder.naming(name), locked(self.directory):
                self._folder.replace(name, _changed(self._folder.read_file(name), part))

    def check_writable(self, keys: Iterable[str]) -> None:
        """Try whether the baselines of these benchmarks, and new files, could be written.

        Raises:
            BaselineError: one could not.
        """
        self._folder.check_writable({file_name(key) for key in keys})


def _changed(entries: Mapping[str, Entry], changes: Mapping[str, Entry | None]) -> dict[str, Entry]:
    changed: dict[str, Entry | None] = {**entries, **changes}
    return {key: entry for key, entry in changed.items() if entry is not None}
