"""A folder of baseline files: which file holds which benchmark, and how a file is replaced."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Generic, TypeVar

from pagedkv.errors import BaselineError, BaselineSchemaError
from pagedkv.whole_files import write_whole

__all__ = ["Folder", "file_name", "write_atomic"]

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Folder(Generic[E]):
    """The baselines of one kind, one file per stem of a test file, or all in one file.

    Attributes:
        path: the folder; it need not exist.
        shown: its name in messages.
        parse: reads the bytes of a file, whose name is for messages.
        render: the text of a file.
        only: the one file that holds all benchmarks; beside it are files that are others' business.
    """

    path: Path
    shown: str
    parse: Callable[[bytes, str], dict[str, E]]
    render: Callable[[Mapping[str, E]], str]
    only: str = ""

    def file_of(self, key: str) -> str:
        """The name of the file that holds a benchmark."""
        return self.only or file_name(key)

    def read(self, but: str = "") -> dict[str, E]:
        """All entries.

        Args:
            but: a file of another kind.

        Raises:
            BaselineError: a file cannot be read, or is not what it must be.
        """
        entries: dict[str, E] = {}
        for path in self._paths():
            entries |= {} if path.name == but else self._read(path)
        return entries

    def read_file(self, name: str) -> dict[str, E]:
        """The entries of one file, none if it is not there."""
        path = self.path / name
        return self._read(path) if path.is_symlink() or path.exists() else {}

    def replace(self, name: str, entries: Mapping[str, E]) -> None:
        """Write one file, or remove it where there are no entries.

        Raises:
            BaselineError: it cannot be written, and is as it was.
        """
        with self.naming(name):
            path = self.path / name
            _refuse_read_only(path)
            if entries:
                write_atomic(path, self.render(entries))
            else:
                path.unlink(missing_ok=True)

    def check_writable(self, names: Iterable[str]) -> None:
        """Try whether these files, and new ones, could be written.

        Raises:
            BaselineError: one could not.
        """
        for name in sorted(names):
            with self.naming(name):
                _refuse_read_only(self.path / name)
        with self.naming(""):
            there = next(path for path in (self.path, *self.path.parents) if path.exists())
            TemporaryFile(dir=there).close()

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Say of a failure inside which file could not be written."""
        try:
            yield
        except OSError as error:
            raise BaselineError(
                f"{self.shown}/{name}: cannot be written ({error.strerror}), and is as it was; "
                "make it writable, or choose another folder with --pagedkv-baselines"
            ) from error

    def _paths(self) -> list[Path]:
        try:
            found = sorted(path for path in self.path.iterdir() if path.suffix == ".json")
            return [path for path in found if self.only in ("", path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BaselineError(
                f"{self.shown}: not a folder that can be read ({error.strerror}); "
                "move it away, or choose another folder with --pagedkv-baselines"
            ) from error

    def _read(self, path: Path) -> dict[str, E]:
        shown = f"{self.shown}/{path.name}"
        try:
            entries = self.parse(path.read_bytes(), shown)
        except OSError as error:
            raise BaselineError(
                f"{shown}: cannot be read ({error.strerror}); make it a readable file"
            ) from error
        for key in entries:
            if self.file_of(key) != path.name:
                raise BaselineSchemaError(
                    f"{shown}: {key!r} belongs into {self.file_of(key)}; move its line there"
                )
        return entries


def file_name(key: str) -> str:
    """The file that holds a benchmark."""
    return PurePosixPath(key.partition("::")[0]).stem + ".json"


def write_atomic(path: Path, text: str) -> None:
    """Replace a file as a whole, or leave it as it was; folders that are missing are made."""
    path.resolve().parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def _refuse_read_only(path: Path) -> None:
    """Renaming over a file asks nobody, and root may write everything: so look at the mode too."""
    if path.exists() and not (path.stat().st_mode & 0o222 and os.access(path, os.W_OK)):
        raise PermissionError(errno.EACCES, "it is read-only", str(path))
