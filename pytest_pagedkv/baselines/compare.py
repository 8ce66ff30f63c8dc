"""Verdicts: the counters of one benchmark against its baseline."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.versioned import comparable, is_versioned

__all__ = ["Difference", "Judgement", "Verdict", "differences", "judge"]

_LOWER_IS_BETTER = re.compile(
    r"(^|_)(allocated|blocks_peak|copies|copied|evictions|evicted|instructions|launches|misses"
    r"|narrow_loads|narrow_stores|out_of_blocks|preemptions|preempted|python_calls|recomputed|registers"
    r"|shared_memory|spill|spills|stack|stalls|syncs|wasted)(_|$)"
)
_HIGHER_IS_BETTER = re.compile(r"(^|_)(hit|hits|reuse|reused|revived|wide_loads|wide_stores)(_|$)")


class Verdict(StrEnum):
    """What is said of one benchmark."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    NEW = "new"
    MISSING = "missing"
    NONDETERMINISTIC = "nondeterministic"
    INCOMPARABLE = "incomparable"
    NOISY = "too noisy"
    STALE = "stale"

    @property
    def is_difference(self) -> bool:
        """Both sides have counters, and they are not equal."""
        return self in (Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED)


_WORST_FIRST = (Verdict.WORSE, Verdict.CHANGED, Verdict.BETTER)


@dataclass(frozen=True, slots=True)
class Difference:
    """One counter that is not what it was; None where it was not counted at all."""

    name: str
    before: int | None
    after: int | None

    @property
    def verdict(self) -> Verdict:
        """Better or worse if the name tells which way is good, else changed, as if a meter comes or goes."""
        if None in (self.before, self.after) and is_versioned(self.name):
            return Verdict.CHANGED
        direction = _direction(self.name) * ((self.after or 0) - (self.before or 0))
        return Verdict.BETTER if direction > 0 else Verdict.WORSE if direction < 0 else Verdict.CHANGED

    def __str__(self) -> str:
        before, after = _shown(self.before, self), _shown(self.after, self)
        return f"{self.name} {before} -> {after} ({self.verdict})"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and the facts that it rests on, one a line."""

    verdict: Verdict
    details: tuple[str, ...] = ()


def differences(before: Mapping[str, int], after: Mapping[str, int]) -> list[Difference]:
    """Every counter that is not equal on both sides, sorted by name."""
    found = (
        Difference(name, before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())
    )
    return [difference for difference in found if difference.before != difference.after]


def judge(counters: Mapping[str, int], baseline: Entry | None) -> Judgement:
    """Compare counters with their baseline, worst first; only equal counters are the same.

    Counters that belong to another version of Python are left out.
    """
    if baseline is None:
        return Judgement(Verdict.NEW)
    found = sorted(
        differences(comparable(baseline.counters, counters), counters),
        key=lambda each: _WORST_FIRST.index(each.verdict),
    )
    return Judgement(_overall({difference.verdict for difference in found}), tuple(map(str, found)))


def _overall(verdicts: set[Verdict]) -> Verdict:
    if not verdicts:
        return Verdict.SAME
    if Verdict.WORSE in verdicts:
        return Verdict.WORSE
    return Verdict.BETTER if verdicts == {Verdict.BETTER} else Verdict.CHANGED


def _direction(name: str) -> int:
    return bool(_HIGHER_IS_BETTER.search(name)) - bool(_LOWER_IS_BETTER.search(name))


def _shown(value: int | None, difference: Difference) -> str:
    """An event counter that never moved is absent, so absent reads 0 where the name is known."""
    if value is None:
        return "0" if difference.verdict is not Verdict.CHANGED else "absent"
    return str(value)
