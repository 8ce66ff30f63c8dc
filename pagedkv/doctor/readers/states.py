"""JSON documents of ours: snapshots of engines, records of runs, and results of simulations."""

import json
from collections.abc import Mapping
from typing import Any

from pagedkv.doctor.diagnosis import FileReport
from pagedkv.doctor.given import GivenFile, Unreadable
from pagedkv.doctor.readers.records import is_record, judge_record
from pagedkv.doctor.readers.simulations import judge_simulation
from pagedkv.doctor.readers.snapshots import is_snapshot, judge_snapshot
from pagedkv.doctor.thresholds import StateThresholds
from pagedkv.pitfalls.finding import Finding

__all__ = ["StateReader"]

_LARGEST = 1 << 28
_MARKS = (b'"schema_version"', b'"pagedkv-engine-run/', b'"mode"', b'"pitfall"')


class StateReader:
    """Reads documents; each is looked at by itself."""

    def __init__(self, limits: StateThresholds) -> None:
        self._limits = limits
        self._found: list[Finding] = []

    def accepts(self, given: GivenFile) -> bool:
        """Whether it is one JSON object of ours; a log of JSON lines is none."""
        head = given.head.lstrip(b"\xef\xbb\xbf \t\r\n\xff\xfe\x00")
        return head.startswith(b"{") and any(mark in head for mark in _MARKS) and not _is_lines(head)

    def read(self, given: GivenFile) -> FileReport:
        """Read a document.

        Raises:
            Unreadable: it is broken, too large, of another version, or nothing that is known.
        """
        plain = _parsed(given)
        if is_record(plain):
            kind, found = "record of a run", judge_record(plain, given.name)
        elif is_snapshot(plain):
            kind, found = "engine snapshot", judge_snapshot(plain, given.name, self._limits)
        elif (told := judge_simulation(plain, given.name, self._limits)) is not None:
            kind, found = "result of a simulation", told
        else:
            raise Unreadable(
                "a JSON object, but neither a snapshot of an engine, nor the record of a run, nor a result "
                "of replay --mode simulated, or of pitfalls NAME, with its findings"
            )
        self._found += found
        return FileReport(file=given.name, kind=kind, num_bytes=given.num_bytes, num_read=1, num_understood=1)

    def findings(self) -> list[Finding]:
        """What the documents say."""
        return self._found


def _is_lines(head: bytes) -> bool:
    """Whether the first line is an object, and not all there is."""
    first, _, rest = head.partition(b"\n")
    if not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(given: GivenFile) -> Mapping[str, Any]:
    data = bytearray()
    for block in given.blocks():
        data += block
        if len(data) > _LARGEST:
            raise Unreadable(f"a JSON object of more than {_LARGEST >> 20} MiB, and no trace")
    try:
        plain = json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it begins as a JSON object, and is none: {error}") from None
    if not isinstance(plain, dict):
        raise Unreadable("it is no JSON object")
    return plain
