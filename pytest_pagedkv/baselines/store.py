"""The folder of baselines: which file holds which benchmark, and how a file is replaced."""

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from pagedkv.errors import BaselineError, BaselineSchemaError
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
        self._entries: dict[str, Entry] = {}
        for path in self._paths():
            self._entries |= self._read(path)

    def keys(self) -> Collection[str]:
        """The benchmarks that have a baseline."""
        return self._entries.keys()

    def get(self, key: str) -> Entry | None:
        """The baseline of a benchmark, if there is one."""
        return self._entries.get(key)

    def shown_file(self, key: str) -> str:
        """The file that holds this benchmark, as messages name it."""
        return f"{self.shown}/counters/{_file_name(key)}"

    def with_changes(self, changes: dict[str, Entry | None]) -> dict[str, str]:
        """Names and texts of the files that these changes touch; None removes an entry."""
        changed: dict[str, Entry | None] = {**self._entries, **changes}
        names = {_file_name(key) for key in changes}
        entries = {key: entry for key, entry in changed.items() if entry is not None}
        return {
            name: render({k: e for k, e in entries.items() if _file_name(k) == name})
            for name in sorted(names)
        }

    def write(self, changes: dict[str, Entry | None]) -> None:
        """Make these changes on disk; a file that loses its last entry is removed.

        Raises:
            BaselineError: a file cannot be written; it is as it was.
        """
        for name, text in self.with_changes(changes).items():
            try:
                self._replace(name, text)
            except OSError as error:
                raise BaselineError(
                    f"{self.shown}/counters/{name}: cannot be written ({error.strerror}), and is as it was; "
                    "make it writable, or choose another folder with --pagedkv-baselines"
                ) from error

    def _replace(self, name: str, text: str) -> None:
        path = self.directory / "counters" / name
        if text == render({}):
            path.unlink(missing_ok=True)
        else:
            write_atomic(path, text)

    def _paths(self) -> list[Path]:
        counters = self.directory / "counters"
        try:
            return sorted(path for path in counters.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BaselineError(
                f"{self.shown}/counters: not a folder that can be read ({error.strerror}); "
                "move it away, or choose another folder with --pagedkv-baselines"
            ) from error

    def _read(self, path: Path) -> dict[str, Entry]:
        shown = f"{self.shown}/counters/{path.name}"
        try:
            entries = parse(path.read_bytes(), shown)
        except OSError as error:
            raise BaselineError(
                f"{shown}: cannot be read ({error.strerror}); make it a readable file"
            ) from error
        for key in entries:
            if _file_name(key) != path.name:
                raise BaselineSchemaError(
                    f"{shown}: {key!r} belongs into {_file_name(key)}; move its line there"
                )
        return entries


def write_atomic(path: Path, text: str) -> None:
    """Replace a file as a whole, or leave it as it was."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _file_name(key: str) -> str:
    return PurePosixPath(key.partition("::")[0]).stem + ".json"
