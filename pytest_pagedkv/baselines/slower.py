"""Slowdowns that were accepted: `{"slower": 0.124, "reason": "checks tokens exactly"}`.

Such a line excuses a slowdown for as long as the base of a comparison does not have it: in the change that
brings both, and not after it is merged.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_pagedkv.baselines.envelope import Line, number_of, parse_lines, render_lines
from pytest_pagedkv.baselines.store import Store

__all__ = ["SLOWER", "Slowdown", "Slowdowns", "parse_slowdowns", "render_slowdowns"]

SLOWER = "slower"
"""The kind of these files, and their sub-folder."""

_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Slowdown:
    """What is accepted of one benchmark.

    Attributes:
        slower: relative change of its time, head against base; above 0.
        reason: why.
    """

    slower: float
    reason: str

    @classmethod
    def of(cls, effect: float, reason: str) -> "Slowdown":
        """The one that was seen, to three significant digits."""
        return cls(float(f"{effect:.{_DIGITS}g}"), reason)

    def covers(self, effect: float, threshold: float) -> bool:
        """Such an effect is no more than this, as far as one can tell."""
        return effect <= self.slower + threshold


class Slowdowns(Store[Slowdown]):
    """The slowdowns accepted in a tree.

    Args:
        directory: the folder of all kinds; it need not exist.
        shown: its name in messages.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """

    def __init__(self, directory: Path, shown: str) -> None:
        super().__init__(directory, shown, SLOWER, parse_slowdowns, render_slowdowns)


def render_slowdowns(entries: Mapping[str, Slowdown]) -> str:
    """The text of a file with these entries; the same entries always give the same bytes."""
    lines = {key: {"slower": entry.slower, "reason": entry.reason} for key, entry in entries.items()}
    return render_lines(SLOWER, lines)


def parse_slowdowns(data: bytes, file: str) -> dict[str, Slowdown]:
    """Read the bytes of such a file.

    Args:
        data: the file's content.
        file: its name, for messages.

    Raises:
        BaselineSchemaError: names the file, the line where there is one, the fault and what to do.
    """
    return {line.key: _entry(line) for line in parse_lines(data, file, SLOWER)}


def _entry(line: Line) -> Slowdown:
    line.refuse_unknown({"slower", "reason"})
    reason = line.optional_text("reason")
    if reason is None or not reason.strip():
        line.fail(f"{line.key!r} has no reason")
    return Slowdown(_ratio(line, line.value.get("slower")), reason)


def _ratio(line: Line, value: object) -> float:
    ratio = number_of(value)
    if not 0 < ratio < math.inf:
        line.fail(f"the slowdown of {line.key!r} is {value!r:.40}, and not a number above 0 such as 0.124")
    return ratio
