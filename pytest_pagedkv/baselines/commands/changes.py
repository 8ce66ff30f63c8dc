"""How two snapshots differ."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pytest_pagedkv.baselines.commands.moves import Move, as_json, moves
from pytest_pagedkv.baselines.commands.snapshot import Place, Snapshot, Stored
from pytest_pagedkv.baselines.fingerprint import mismatches
from pytest_pagedkv.baselines.schema import COUNTERS, Entry
from pytest_pagedkv.baselines.versioned import comparable

__all__ = ["Change", "Comparison", "Kind", "compare"]


class Kind(StrEnum):
    """What became of an entry, in the order in which changes are shown."""

    WORSE = "worse"
    CHANGED = "changed"
    BETTER = "better"
    NEW = "new"
    GONE = "gone"
    REASON = "reason"


_ORDER = list(Kind)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that is not what it was.

    Attributes:
        place: which.
        before: the entry as it was; None if there was none.
        after: the entry as it is; None if there is none.
    """

    place: Place
    before: Stored | None
    after: Stored | None

    @property
    def moves(self) -> list[Move]:
        """What moved, worst first; nothing if one side has no entry."""
        return [] if self.before is None or self.after is None else moves(self.before, self.after)

    @property
    def kind(self) -> Kind | None:
        """What became of it; None if nothing did."""
        if self.before is None or self.after is None:
            return Kind.NEW if self.before is None else Kind.GONE
        verdicts = {Kind(move.verdict) for move in self.moves}
        if not verdicts:
            return None if self.before.reason == self.after.reason else Kind.REASON
        return (
            Kind.WORSE if Kind.WORSE in verdicts else verdicts.pop() if len(verdicts) == 1 else Kind.CHANGED
        )

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
            "before": as_json(self.before),
            "after": as_json(self.after),
            "moves": [move.as_json() for move in self.moves],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two snapshots side by side.

    Attributes:
        before: label of the one.
        after: label of the other.
        changes: what differs, worst first.
        num_same: entries that have not changed.
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
        numbers = Counter(change.kind for change in self.changes)
        words = {Kind.REASON: "with another reason"}
        parts = [f"{numbers[kind]} {words.get(kind, kind)}" for kind in Kind if kind in numbers]
        parts.append(f"{self.num_same} unchanged")
        if self.num_unknown:
            parts.append(f"{self.num_unknown} not in the run")
        return ", ".join(parts)

    def groups(self) -> list[tuple[str, list[Change]]]:
        """The changes by kind and environment, each with its title: "" for counters, which come first."""
        found: dict[str, list[Change]] = {}
        for change in sorted(self.changes, key=lambda each: each.place[:2]):
            place = change.place
            title = "" if place.kind == COUNTERS else f"{place.kind} {place.environment}".strip()
            found.setdefault(title, []).append(change)
        return list(found.items())

    def as_json(self) -> dict[str, Any]:
        """As built-in types."""
        return {
            "before": self.before,
            "after": self.after,
            "changes": [change.as_json() for change in self.changes],
            "num_unchanged": self.num_same,
            "num_not_in_run": self.num_unknown,
            "notes": list(self.notes),
        }


def compare(before: Snapshot, after: Snapshot) -> Comparison:
    """Set two snapshots side by side; what a run does not know is neither new nor gone."""
    problems = _other_environments(before, after)
    places = {
        place for place in before.entries.keys() | after.entries.keys() if place.environment not in problems
    }
    known = {place for place in places if before.knows(place) and after.knows(place)}
    changes = [
        change
        for place in known
        if _counts(
            change := Change(place, *_seen_from_runs(place, before, after)),
            with_reasons=before.is_whole and after.is_whole,
        )
    ]
    return Comparison(
        before=before.label,
        after=after.label,
        changes=tuple(sorted(changes, key=_rank)),
        num_same=len(known) - len(changes),
        num_unknown=len(places) - len(known),
        notes=before.notes + after.notes + tuple(problems.values()),
    )


def _seen_from_runs(place: Place, before: Snapshot, after: Snapshot) -> tuple[Stored | None, Stored | None]:
    """The two entries; where one is a run's, the other without the counters of other versions of Python."""
    old, new = before.entries.get(place), after.entries.get(place)
    if isinstance(old, Entry) and isinstance(new, Entry):
        if after.python:
            old = Entry(comparable(old.counters, new.counters, after.python), old.reason)
        elif before.python:
            new = Entry(comparable(new.counters, old.counters, before.python), new.reason)
    return old, new


def _counts(change: Change, *, with_reasons: bool) -> bool:
    return change.kind is not None and (with_reasons or change.kind is not Kind.REASON)


def _rank(change: Change) -> tuple[int, Place]:
    return _ORDER.index(change.kind or Kind.REASON), change.place


def _other_environments(before: Snapshot, after: Snapshot) -> dict[str, str]:
    """Environments that share a name and are not the same: a note for each."""
    found = {
        name: mismatches(after.environments[name], before.environments[name])
        for name in sorted(before.environments.keys() & after.environments.keys())
    }
    return {
        name: f"timings of {name}: not compared, {', '.join(fields)}"
        for name, fields in found.items()
        if fields
    }
