"""The folder of baselines: which file holds which benchmark, and how a file is replaced."""

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile

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

    def with_changes(self, changes: Mapping[str, Entry | None]) -> dict[str, str]:
        """Names and texts of the files that these changes touch; None removes an entry."""
        changed: dict[str, Entry | None] = {**self._entries, **changes}
        names = {_file_name(key) for key in changes}
        entries = {key: entry for key, entry in changed.items() if entry is not None}
        return {
            name: render({k: e for k, e in entries.items() if _file_name(k) == name})
            for name in sorted(names)
        }

    def by_file(self, changes: Mapping[str, Entry | None]) -> list[dict[str, Entry | None]]:
        """The changes in parts, one for each file, to be written one by one."""
        parts: dict[str, dict[str, Entry | None]] = {}
        for key in sorted(changes):
            parts.setdefault(_file_name(key), {})[key] = changes[key]
        return [parts[name] for name in sorted(parts)]

    def write(self, changes: Mapping[str, Entry | None]) -> None:
        """Make these changes on disk; a file that loses its last entry is removed.

        Raises:
            BaselineError: a file cannot be written; it is as it was.
        """
        for name, text in self.with_changes(changes).items():
            with self._naming(name):
                self._replace(name, text)

    def check_writable(self, keys: Iterable[str]) -> None:
        """Try whether the baselines of these benchmarks, and new files, could be written.

        Raises:
            BaselineError: one could not.
        """
        for name in sorted({_file_name(key) for key in keys}):
            with self._naming(name):
                _refuse_read_only(self.directory / "counters" / name)
        with self._naming(""):
            folder = self.directory / "counters"
            TemporaryFile(dir=next(path for path in (folder, *folder.parents) if path.exists())).close()

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BaselineError(
                f"{self.shown}/counters/{name}: cannot be written ({error.strerror}), and is as it was; "
                "make it writable, or choose another folder with --pagedkv-baselines"
            ) from error

    def _replace(self, name: str, text: str) -> None:
        path = self.directory / "counters" / name
        _refuse_read_only(path)
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
    """Replace a file as a whole, or leave it as it was. It keeps its mode."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_read_only(path: Path) -> None:
    """Renaming over a file asks nobody, and root may write everything: so look at the mode too."""
    if path.exists() and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
        raise PermissionError(errno.EACCES, "it is read-only", str(path))


def _file_name(key: str) -> str:
    return PurePosixPath(key.partition("::")[0]).stem + ".json"
