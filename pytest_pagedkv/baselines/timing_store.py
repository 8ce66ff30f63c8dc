"""The stored timings of one environment, and how they are changed."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pagedkv.errors import BaselineError, BaselineSchemaError
from pytest_pagedkv.baselines.fingerprint import Fingerprint, mismatches
from pytest_pagedkv.baselines.folder import Folder, file_name, write_atomic
from pytest_pagedkv.baselines.locking import locked
from pytest_pagedkv.baselines.timing_schema import (
    TimingEntry,
    parse_environment,
    parse_timings,
    render_environment,
    render_timings,
)

__all__ = ["Change", "Timings"]

_ENVIRONMENT = "env.json"
_MAX_FIELDS = 3

Change = Callable[[TimingEntry | None], TimingEntry | None]
"""What becomes of what is stored; None is nothing."""


class Timings:
    """What is stored under `<directory>/timing/<slug>/`, one file per stem of a test file, and env.json.

    Args:
        directory: the folder of all baselines; it need not exist.
        shown: its name in messages.
        here: the environment of this process.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """

    def __init__(self, directory: Path, shown: str, here: Fingerprint) -> None:
        self.here = here
        self.shown = f"{shown}/timing/{here.slug}"
        self._directory = directory
        path = directory / "timing" / here.slug
        self._folder = Folder(path, self.shown, parse_timings, render_timings)
        self._there, self._entries = self._read()

    @cached_property
    def problem(self) -> str:
        """Why no stored timing can be compared with one of here, with the fields that differ, or ""."""
        if self._there is not None:
            return _listed(mismatches(self.here.compared, self._there.compared))
        return f"no timings are stored for {self.here.slug}{self._nearest}"

    @property
    def is_comparable(self) -> bool:
        """Timings of this very environment are stored."""
        return bool(self._entries) and not self.problem

    @property
    def are_elsewhere(self) -> bool:
        """Timings are stored, and those of this environment are not among them."""
        return bool(self._there or self._nearest) and bool(self.problem)

    def keys(self) -> Collection[str]:
        """The benchmarks that have a timing of this environment."""
        return self._entries.keys() if self.is_comparable else ()

    def get(self, key: str) -> TimingEntry | None:
        """The timing of a benchmark in this environment, if there is one."""
        return self._entries.get(key) if self.is_comparable else None

    def shown_file(self, key: str) -> str:
        """The file that holds this benchmark, as messages name it."""
        return f"{self.shown}/{file_name(key)}"

    def update(self, changes: Mapping[str, Change]) -> list[str]:
        """Make these changes to what is stored at that moment, by whomever.

        Timings of another environment that has the same name make room: nothing can be compared with them.

        Returns:
            The benchmarks whose line is another one now.

        Raises:
            BaselineError: a file cannot be written, or is no baseline file any more; it is as it was.
        """
        with self._folder.naming(""), locked(self._directory):
            there, before = self._read()
            if there is not None and there.compared != self.here.compared:
                before = self._make_room(before)
            after = {key: change(before.get(key)) for key, change in changes.items()}
            changed = sorted(key for key in after if after[key] != before.get(key))
            self._write(before | after, {file_name(key) for key in changed})
        return changed

    def check_writable(self, keys: Iterable[str]) -> None:
        """Try whether the timings of these benchmarks, and new files, could be written.

        Raises:
            BaselineError: one could not.
        """
        self._folder.check_writable({_ENVIRONMENT, *map(file_name, keys)})

    def _write(self, entries: Mapping[str, TimingEntry | None], names: Collection[str]) -> None:
        there = {key: entry for key, entry in entries.items() if entry is not None}
        environment = self._folder.path / _ENVIRONMENT
        if names and not environment.exists():
            with self._folder.naming(_ENVIRONMENT):
                write_atomic(environment, render_environment(self.here))
        for name in sorted(names):
            self._folder.replace(name, {key: entry for key, entry in there.items() if file_name(key) == name})

    def _make_room(self, entries: Mapping[str, TimingEntry]) -> dict[str, TimingEntry]:
        """Remove all files; env.json is the last one, so that the others never belong to a wrong one."""
        for name in sorted({file_name(key) for key in entries}):
            self._folder.replace(name, {})
        with self._folder.naming(_ENVIRONMENT):
            (self._folder.path / _ENVIRONMENT).unlink(missing_ok=True)
        return {}

    def _read(self) -> tuple[Fingerprint | None, dict[str, TimingEntry]]:
        """What is on disk."""
        there = _environment(self._folder.path, self.shown)
        entries = self._folder.read(but=_ENVIRONMENT)
        if entries and there is None:
            raise BaselineSchemaError(
                f"{self.shown}/{_ENVIRONMENT}: missing, and without it the timings beside it mean nothing; "
                f"restore it from git, or delete {self.shown}"
            )
        return there, entries

    @cached_property
    def _nearest(self) -> str:
        """The environment that differs in the fewest fields, and what these are; "" if none is stored."""
        found = {path.name: there for path in self._others() if (there := _environment(path, path.name))}
        if not found:
            return ""
        fields = {slug: mismatches(self.here.compared, there.compared) for slug, there in found.items()}
        slug = min(sorted(fields), key=lambda each: len(fields[each]))
        return f"; nearest is {slug}: {_listed(fields[slug])}"

    def _others(self) -> list[Path]:
        folder = self._folder.path.parent
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _environment(folder: Path, shown: str) -> Fingerprint | None:
    """The environment of a folder of timings, if it is one.

    Raises:
        BaselineError: its file cannot be read, or is not what it must be.
    """
    shown = f"{shown}/{_ENVIRONMENT}"
    try:
        return parse_environment((folder / _ENVIRONMENT).read_bytes(), shown)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaselineError(f"{shown}: cannot be read ({error.strerror}); make it a readable file") from error


def _listed(fields: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = [f"+{len(fields) - _MAX_FIELDS} more"] if len(fields) > _MAX_FIELDS else []
    return ", ".join([*fields[:_MAX_FIELDS], *more])
