"""Exports of Nsight Systems (`nsys export --type sqlite`), opened to read only."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from pagedkv.doctor.diagnosis import FileReport
from pagedkv.doctor.given import GivenFile, Unreadable
from pagedkv.doctor.thresholds import TimelineThresholds
from pagedkv.doctor.timeline import Timeline, findings_of, is_blocking, is_compiling, is_step, notes_of
from pagedkv.pitfalls.finding import Finding

__all__ = ["NsysReader"]

_MAGIC = b"SQLite format 3\0"
_KERNELS, _COPIES = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_MEMCPY"
_CALLS, _RANGES, _STRINGS = "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS", "StringIds"
_KNOWN = frozenset({_KERNELS, _COPIES, _CALLS, _RANGES, _STRINGS})
_TO_DEVICE, _TO_HOST = 1, 2
_PAGEABLE = 0  # of ENUM_CUDA_MEM_KIND, where the export lacks it
_NS_PER_US = 1e3


class NsysReader:
    """Reads exports; each is looked at by itself."""

    def __init__(self, limits: TimelineThresholds) -> None:
        self._limits = limits
        self._found: list[Finding] = []

    def accepts(self, given: GivenFile) -> bool:
        """Whether it is a database."""
        return given.head.startswith(_MAGIC)

    def read(self, given: GivenFile) -> FileReport:
        """Read an export.

        Raises:
            Unreadable: it is packed or comes from a pipe, is broken, or is another database.
        """
        if given.path is None or given.is_gzip:
            raise Unreadable(
                "an sqlite database has to be a file, unpacked: it is not read from front to back"
            )
        timeline = Timeline(given.name)
        try:
            with closing(sqlite3.connect(f"{given.path.absolute().as_uri()}?mode=ro", uri=True)) as database:
                database.text_factory = lambda text: text.decode("utf-8", "replace")
                num_read, num_used, missing = _Export(database, timeline).fold()
        except sqlite3.Error as error:
            raise Unreadable(f"an sqlite database that cannot be read: {error}") from None
        self._found += findings_of(timeline, self._limits)
        notes = (f"without {', '.join(sorted(missing))}",) if missing else ()
        return FileReport(
            file=given.name,
            kind="nsys sqlite export",
            num_bytes=given.path.stat().st_size,
            num_read=num_read,
            num_understood=num_used,
            notes=(*notes_of(timeline), *notes),
        )

    def findings(self) -> list[Finding]:
        """What the exports say."""
        return self._found


class _Export:
    """One database, of which any table and column may be missing."""

    def __init__(self, database: sqlite3.Connection, timeline: Timeline) -> None:
        self._database, self._timeline = database, timeline
        self._columns: dict[str, set[str]] = {}
        self.num_read = self.num_used = 0

    def fold(self) -> tuple[int, int, set[str]]:
        """Rows read, rows used, and the tables that are not there.

        Raises:
            Unreadable: none of the tables is.
        """
        tables = {
            name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        missing = set(_KNOWN - tables)
        if missing == _KNOWN:
            raise Unreadable("an sqlite database, but no export of nsys: none of its tables is known")
        for table in _KNOWN & tables:
            rows = self._database.execute(f"SELECT name FROM pragma_table_info('{table}')")  # noqa: S608 - ours
            self._columns[table] = {name for (name,) in rows}
        for fold in (self._fold_kernels, self._fold_copies, self._fold_ranges, self._fold_calls):
            fold()
        return self.num_read, self.num_used, missing

    def _rows(
        self, table: str, needed: tuple[str, ...], wanted: tuple[str, ...] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Rowid, the needed columns, and the wanted ones, None where they are missing."""
        columns = self._columns.get(table, set())
        if not columns.issuperset(needed):
            return
        picked = [f'"{name}"' for name in needed] + [
            f'"{name}"' if name in columns else "NULL" for name in wanted
        ]
        query = f"SELECT rowid, {', '.join(picked)} FROM {table}"  # noqa: S608 - names of ours
        for row in self._database.execute(query):
            self.num_read += 1
            if all(isinstance(value, (int, float)) for value in row[1:3]):
                yield row

    def _fold_kernels(self) -> None:
        for _, start, end, device in self._rows(_KERNELS, ("start", "end"), ("deviceId",)):
            self.num_used += 1
            self._timeline.kernel(device, start / _NS_PER_US, end / _NS_PER_US)

    def _fold_copies(self) -> None:
        pageable = self._pageable()
        needed, wanted = ("start", "end", "copyKind"), ("bytes", "srcKind", "dstKind", "deviceId")
        for number, start, end, kind, size, source, target, device in self._rows(_COPIES, needed, wanted):
            if kind not in (_TO_DEVICE, _TO_HOST):
                continue
            self.num_used += 1
            self._timeline.copy(
                device,
                start / _NS_PER_US,
                end / _NS_PER_US,
                size if isinstance(size, (int, float)) else 0.0,
                pageable=(source if kind == _TO_DEVICE else target) in pageable,
                number=number,
                name="Memcpy HtoD" if kind == _TO_DEVICE else "Memcpy DtoH",
            )

    def _pageable(self) -> set[int]:
        """Numbers of the memory kinds that are pageable."""
        try:
            rows = self._database.execute("SELECT id, label FROM ENUM_CUDA_MEM_KIND").fetchall()
        except sqlite3.OperationalError:
            return {_PAGEABLE}
        return {number for number, label in rows if str(label).lower() == "pageable"} or {_PAGEABLE}

    def _fold_ranges(self) -> None:
        names = self._names(lambda name: bool(is_step(name)))
        for _, start, end, text, text_id, thread in self._rows(
            _RANGES, ("start", "end"), ("text", "textId", "globalTid")
        ):
            kind = is_step(text) if isinstance(text, str) else is_step(names.get(text_id, ""))
            if kind:
                self.num_used += 1
                self._timeline.step(thread, kind, start / _NS_PER_US, end / _NS_PER_US)

    def _fold_calls(self) -> None:
        names = self._names(lambda name: is_blocking(name) or is_compiling(name))
        for number, start, end, name_id, thread in self._rows(
            _CALLS, ("start", "end", "nameId"), ("globalTid",)
        ):
            name = names.get(name_id)
            if name is None:
                continue
            self.num_used += 1
            calls = self._timeline.syncs if is_blocking(name) else self._timeline.compiling
            calls.add(thread, name, start / _NS_PER_US, end / _NS_PER_US, number)

    def _names(self, is_wanted: Callable[[str], bool]) -> dict[int, str]:
        """Strings by their numbers, of those that are wanted."""
        if not self._columns.get(_STRINGS, set()).issuperset(("id", "value")):
            return {}
        rows = self._database.execute(f"SELECT id, value FROM {_STRINGS}")  # noqa: S608 - a name of ours
        return {number: value for number, value in rows if isinstance(value, str) and is_wanted(value)}
