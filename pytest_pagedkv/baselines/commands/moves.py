"""What moved between two entries of a benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_pagedkv.baselines.commands.snapshot import Stored
from pytest_pagedkv.baselines.compare import Verdict, differences
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.slower import Slowdown
from pytest_pagedkv.baselines.timing import tolerance_of
from pytest_pagedkv.baselines.timing_schema import TimingEntry
from pytest_pagedkv.baselines.wording import counted

__all__ = ["Move", "as_json", "moves", "size"]

_WORST_FIRST = (Verdict.WORSE, Verdict.CHANGED, Verdict.BETTER)
_LEAST_CHANGE = tolerance_of(0.0) / 2
"""Stored times that differ by less have not changed, as far as anybody can tell."""
_MANY_FOLD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A number of an entry that is not what it was.

    Attributes:
        name: what it counts, or the clock.
        before: as it was; None if it was not there.
        after: as it is; None if it is not there.
        verdict: better or worse, or changed where nobody can tell.
        remark: what else is to be known, or "".
    """

    name: str
    before: float | None
    after: float | None
    verdict: Verdict
    remark: str = ""

    @property
    def sides(self) -> tuple[str, str]:
        """Both as text; a counter of events that never moved is not stored, and reads 0."""
        absent = "absent" if self.verdict is Verdict.CHANGED else "0"
        before, after = (absent if each is None else str(each) for each in (self.before, self.after))
        return before, after

    @property
    def percent(self) -> str:
        """The relative change; "" where there is none, or there was 0 or nothing."""
        if not self.before or self.after is None or self.after == self.before:
            return ""
        moved, was = abs(self.after - self.before), abs(self.before)
        sign = "+" if (self.after > self.before) == (self.before > 0) else "-"
        if moved >= _MANY_FOLD * was:
            return f"{sign}{moved // was:.0f}x" if isinstance(moved, float) else f"{sign}{moved // was}x"
        return f"{sign}{moved / was:.1%}" if 2000 * moved >= was else f"{sign}<0.1%"

    def as_json(self) -> dict[str, Any]:
        """As built-in types."""
        about = {"name": self.name, "before": self.before, "after": self.after, "verdict": self.verdict}
        return about | ({"remark": self.remark} if self.remark else {})


def moves(before: Stored, after: Stored) -> list[Move]:
    """Everything that moved, worst first; nothing if the entries are the same but for their reasons."""
    if isinstance(before, Entry) and isinstance(after, Entry):
        found = [
            Move(name=each.name, before=each.before, after=each.after, verdict=each.verdict)
            for each in differences(before.counters, after.counters)
        ]
        return sorted(found, key=lambda each: _WORST_FIRST.index(each.verdict))
    if isinstance(before, TimingEntry) and isinstance(after, TimingEntry):
        return _moved_time(before, after)
    if isinstance(before, Slowdown) and isinstance(after, Slowdown):
        return _moved_slowdown(before, after)
    raise TypeError(f"a {type(before).__name__} does not compare with a {type(after).__name__}")


def size(entry: Stored) -> str:
    """What an entry holds, in a few words."""
    if isinstance(entry, Entry):
        return counted(len(entry.counters), "counter")
    if isinstance(entry, Slowdown):
        return f"{entry.slower:+.1%} accepted"
    return f"{_clock(entry.metric)} {entry.centre:.4g}, {counted(len(entry.history), 'run')}"


def as_json(entry: Stored | None) -> Mapping[str, Any] | None:
    """As built-in types."""
    if entry is None:
        return None
    if isinstance(entry, Entry):
        return {"counters": dict(entry.counters), "reason": entry.reason}
    if isinstance(entry, Slowdown):
        return {"slower": entry.slower, "reason": entry.reason}
    about = {"metric": entry.metric, "centre": entry.centre, "history": list(entry.history)}
    return about | {"spread": entry.spread, "reason": entry.reason}


def _moved_time(before: TimingEntry, after: TimingEntry) -> list[Move]:
    """The centre, if it moved by more than half of what is the finest tolerance of a stored time."""
    remark = _incomparable(before, after)
    was, now = (float(f"{entry.centre:.4g}") for entry in (before, after))
    if 1 / (1 + _LEAST_CHANGE) <= now / was <= 1 + _LEAST_CHANGE and not remark:
        return []
    verdict = Verdict.CHANGED if remark else Verdict.WORSE if now > was else Verdict.BETTER
    return [Move(name=_clock(after.metric), before=was, after=now, verdict=verdict, remark=remark)]


def _moved_slowdown(before: Slowdown, after: Slowdown) -> list[Move]:
    was, now = before.slower, after.slower
    verdict = Verdict.WORSE if now > was else Verdict.BETTER
    return [] if now == was else [Move(name="accepted", before=was, after=now, verdict=verdict)]


def _incomparable(before: TimingEntry, after: TimingEntry) -> str:
    if before.metric != after.metric:
        return f"timed with {_clock(before.metric)} before"
    is_other = before.source and after.source and before.source != after.source
    return "the benchmark's source changed" if is_other else ""


def _clock(metric: str) -> str:
    """The unit of a centre: a cpu time is a multiple of the reference workload's."""
    return "cpu x reference" if metric == "cpu" else f"{metric} ns"
