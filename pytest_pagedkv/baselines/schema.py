"""The lines of counter baselines: `{"counters": {"cow_copies": 3}, "reason": "beams share less"}`.

What the compiler says of a kernel are counters too, which belong to a compiler: a kind of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pagedkv.baselines.envelope import Line, parse_lines, render_lines

__all__ = ["COUNTERS", "KERNELS", "Entry", "parse", "render"]

COUNTERS, KERNELS = "counters", "kernels"
"""The kinds of these files."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is stored of one benchmark; `reason` says why its last change was accepted."""

    counters: Mapping[str, int]
    reason: str | None = None


def render(entries: Mapping[str, Entry], kind: str = COUNTERS) -> str:
    """The text of a file with these entries; the same entries always give the same bytes."""
    return render_lines(kind, {key: _as_json(entry) for key, entry in entries.items()})


def parse(data: bytes, file: str, kind: str = COUNTERS) -> dict[str, Entry]:
    """Read the bytes of a baseline file.

    Args:
        data: the file's content.
        file: its name, for messages.
        kind: what it must be.

    Raises:
        BaselineSchemaError: names the file, the line where there is one, the fault and what to do.
    """
    return {line.key: _entry(line) for line in parse_lines(data, file, kind)}


def _as_json(entry: Entry) -> dict[str, object]:
    counters: dict[str, object] = {"counters": dict(sorted(entry.counters.items()))}
    return counters if entry.reason is None else counters | {"reason": entry.reason}


def _entry(line: Line) -> Entry:
    line.refuse_unknown({"counters", "reason"})
    counters = {name: _count(line, name, value) for name, value in line.mapping("counters").items()}
    return Entry(counters, line.optional_text("reason"))


def _count(line: Line, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        line.fail(f"counter {name!r} is {value!r}, not an integer")
    return value
