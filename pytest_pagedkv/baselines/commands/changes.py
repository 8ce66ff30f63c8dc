"""How two snapshots differ."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pytest_pagedkv.baselines.commands.snapshot import Place, Snapshot
from pytest_pagedkv.baselines.compare import Difference, Verdict, differences, judge
from pytest_pagedkv.baselines.schema import Entry

__all__ = ["Change", "Comparison", "Kind", "compare", "percent"]

_MANY_FOLD = 100


class Kind(StrEnum):
    """What became of an entry, in the order in which changes are shown."""

    WORSE = "worse"
    CHANGED = "changed"
    BETTER = "better"
    NEW = "new"
    GONE = "gone"
    REASON = "reason"


_ORDER = list(Kind)
_WORST_FIRST = (Verdict.WORSE, Verdict.CHANGED, Verdict.BETTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry that is not what it was.

    Attributes:
        place: which.
        before: the entry as it was; None if there was none.
        after: the entry as it is; None if there is none.
    """

    place: Place
    before: Entry | None
    after: Entry | None

    @property
    def kind(self) -> Kind:
        """What became of it: the verdict on its counters, if both sides have some."""
        if self.before is None or self.after is None:
            return Kind.NEW if self.before is None else Kind.GONE
        verdict = judge(self.after.counters, self.before).verdict
        return Kind.REASON if verdict is Verdict.SAME else Kind(verdict)

    @property
    def differences(self) -> list[Difference]:
        """The counters that moved, worst first; none if one side has no entry."""
        if self.before is None or self.after is None:
            return []
        found = differences(self.before.counters, self.after.counters)
        return sorted(found, key=lambda each: _WORST_FIRST.index(each.verdict))

    @property
    def reason(self) -> str | None:
        """Why it was accepted, if that is said since."""
        was = None if self.before is None else self.before.reason
        return None if self.after is None or self.after.reason == was else self.after.reason

    def as_json(self) -> dict[str, Any]:
        """As built-in types."""
        return {
            "kind": self.place.kind,
            "environment": self.place.environment or None,
            "benchmark": self.place.key,
            "change": self.kind,
            "before": _entry_as_json(self.before),
            "after": _entry_as_json(self.after),
            "differences": [
                {"counter": each.name, "before": each.before, "after": each.after, "verdict": each.verdict}
                for each in self.differences
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two snapshots side by side.

    Attributes:
        before: label of the one.
        after: label of the other.
        changes: what differs, worst first.
        num_same: entries that are equal.
        num_unknown: entries of one side about which the other, a run, says nothing.
        notes: what could not be compared.
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    num_same: int
    num_unknown: int
    notes: tuple[str, ...]

    def summary(self) -> str:
        """How many there are of each kind, on one line."""
        numbers = Counter(change.kind.value for change in self.changes)
        words = {"reason": "with another reason"}
        parts = [f"{numbers[kind]} {words.get(kind, kind)}" for kind in Kind if kind in numbers]
        parts.append(f"{self.num_same} same")
        if self.num_unknown:
            parts.append(f"{self.num_unknown} not in the run")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """As built-in types."""
        return {
            "before": self.before,
            "after": self.after,
            "changes": [change.as_json() for change in self.changes],
            "num_same": self.num_same,
            "num_not_in_run": self.num_unknown,
            "notes": list(self.notes),
        }


def compare(before: Snapshot, after: Snapshot) -> Comparison:
    """Set two snapshots side by side; what a run does not know is neither new nor gone."""
    with_reasons = before.is_whole and after.is_whole
    changes: list[Change] = []
    num_same = num_unknown = 0
    for place in before.entries.keys() | after.entries.keys():
        change = Change(place=place, before=before.entries.get(place), after=after.entries.get(place))
        if not all(place in side.entries or side.lacks(place) for side in (before, after)):
            num_unknown += 1
        elif change.before == change.after or (change.kind is Kind.REASON and not with_reasons):
            num_same += 1
        else:
            changes.append(change)
    return Comparison(
        before=before.label,
        after=after.label,
        changes=tuple(sorted(changes, key=lambda each: (_ORDER.index(each.kind), each.place))),
        num_same=num_same,
        num_unknown=num_unknown,
        notes=before.notes + after.notes,
    )


def percent(difference: Difference) -> str:
    """The relative change of a counter; "" where it was 0 or did not exist."""
    before, after = difference.before, difference.after
    if not before or after is None:
        return ""
    moved = abs(after - before)
    sign = "+" if (after - before) * before > 0 else "-"
    if moved >= _MANY_FOLD * abs(before):
        return f"{sign}{moved // abs(before)}x"
    return f"{sign}{moved / abs(before):.1%}" if 2000 * moved >= abs(before) else f"{sign}<0.1%"


def _entry_as_json(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"counters": dict(entry.counters), "reason": entry.reason}
