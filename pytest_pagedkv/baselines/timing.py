"""The rule for stored timings: what a run says against its history, and what an update makes of that.

A history has at most ten runs, and gates from five on. A benchmark is worse if its centre lies above the
median of its history by more than three times the median deviation, and by more than half the tolerance.
Beyond the whole tolerance that fails the test; up to there it is a note. Better is the mirror image.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_pagedkv.baselines.compare import Verdict
from pytest_pagedkv.baselines.timing_schema import MAX_HISTORY, TimingEntry, rounded

__all__ = ["StoredResult", "TimedRun", "judge_timing", "tolerance_of", "updated"]

_MIN_HISTORY = 5
_NUM_DEVIATIONS = 3
_TOLERANCE = 0.20
_NUM_SPREADS = 3
_GATED_METRICS = ("cpu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """What this run says of a benchmark's time.

    Attributes:
        metric: the clock.
        centre: multiples of the reference workload for "cpu", nanoseconds for "cuda".
        spread: median distance of the rounds from it, as a ratio.
        source: hash of the benchmark's source.
    """

    metric: str
    centre: float
    spread: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """A verdict on time, and what it rests on.

    Attributes:
        verdict: of this run against the stored one.
        detail: a line about it, or "".
        tolerance: relative change above which the test fails.
        run: what was timed; None if that failed.
        history: what it was compared with, oldest first; empty if with nothing.
        baseline_centre: its median.
        fails: the gate fails for it.
    """

    verdict: Verdict
    tolerance: float
    detail: str = ""
    run: TimedRun | None = None
    history: tuple[float, ...] = ()
    baseline_centre: float | None = None
    fails: bool = False

    @property
    def ratio(self) -> float | None:
        """Time against the stored time; None if they were not compared."""
        if self.run is None or self.baseline_centre is None:
            return None
        return self.run.centre / self.baseline_centre

    def as_plain(self) -> dict[str, Any]:
        """As built-in types."""
        return asdict(self) | {"verdict": str(self.verdict)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "StoredResult":
        """Back from built-in types."""
        run = plain["run"]
        values = {
            "verdict": Verdict(plain["verdict"]),
            "history": tuple(plain["history"]),
            "run": run and TimedRun(**run),
        }
        return cls(**{**plain, **values})


def tolerance_of(threshold: float, spread: float = 0.0) -> float:
    """The tolerance of a benchmark with this threshold of its marker, whose rounds scatter by this spread.

    A stored time is never finer than 20%, nor than three times the spread.
    """
    return max(_TOLERANCE, threshold, rounded(_NUM_SPREADS * spread))


def judge_timing(run: TimedRun, entry: TimingEntry | None, threshold: float) -> StoredResult:
    """Compare a run with its history.

    Args:
        run: what was timed.
        entry: what is stored, in this very environment.
        threshold: the marker's.
    """
    tolerance = tolerance_of(threshold, run.spread)
    if entry is None:
        return StoredResult(verdict=Verdict.NEW, tolerance=tolerance, run=run)
    if problem := _problem(run, entry):
        return StoredResult(verdict=Verdict.INCOMPARABLE, tolerance=tolerance, detail=problem, run=run)
    verdict = _verdict(run.centre, entry, tolerance / 2)
    result = StoredResult(
        verdict=verdict,
        tolerance=tolerance,
        run=run,
        history=entry.history,
        baseline_centre=entry.centre,
        fails=verdict is Verdict.WORSE and _is_gated(run, entry, tolerance),
    )
    return replace(result, detail=_told(run, entry, result))


def updated(entry: TimingEntry | None, result: StoredResult, reason: str | None = None) -> TimingEntry | None:
    """What an update stores of a benchmark: another entry, or the same one where there is nothing to store.

    A slow run never becomes its own baseline: it needs a reason. Another level, better or accepted, begins a
    new history. Within the old one runs are added until there are ten; from then on only one that is further
    from the centre than half the tolerance, so that a file changes when there is something to see.

    Args:
        entry: what is stored now.
        result: the verdict of this run.
        reason: why it is accepted; None if it is not accepted by name.
    """
    run = result.run
    if run is None or (result.verdict is Verdict.WORSE and reason is None):
        return entry
    begun = TimingEntry(
        metric=run.metric,
        history=(rounded(run.centre),),
        spread=rounded(run.spread),
        source=run.source,
        reason=reason,
    )
    if entry is None or _problem(run, entry) or result.verdict in (Verdict.WORSE, Verdict.BETTER):
        return begun
    has_moved = not _is_within(run.centre, entry.centre, result.tolerance / 2)
    if len(entry.history) >= MAX_HISTORY and not has_moved:
        return entry
    history = (*entry.history, *begun.history)[-MAX_HISTORY:]
    return replace(begun, history=history, reason=entry.reason if reason is None else reason)


def _problem(run: TimedRun, entry: TimingEntry) -> str:
    """Why the two cannot be compared, or ""."""
    if run.metric != entry.metric:
        return f"metric {run.metric} here, {entry.metric} in the baseline"
    return "" if run.source == entry.source else "its source changed since it was stored"


def _verdict(centre: float, entry: TimingEntry, least: float) -> Verdict:
    is_usual = abs(centre - entry.centre) <= _NUM_DEVIATIONS * entry.deviation
    if is_usual or _is_within(centre, entry.centre, least):
        return Verdict.SAME
    return Verdict.WORSE if centre > entry.centre else Verdict.BETTER


def _is_within(centre: float, before: float, change: float) -> bool:
    """Neither slower nor faster by more than this ratio."""
    return 1 / (1 + change) <= centre / before <= 1 + change


def _is_gated(run: TimedRun, entry: TimingEntry, tolerance: float) -> bool:
    is_known = len(entry.history) >= _MIN_HISTORY and run.metric in _GATED_METRICS
    return is_known and not _is_within(run.centre, entry.centre, tolerance)


def _told(run: TimedRun, entry: TimingEntry, result: StoredResult) -> str:
    if result.verdict is Verdict.SAME:
        return ""
    number = len(entry.history)
    low, high = min(entry.history), max(entry.history)
    of = f"{number} runs at {low:.4g}..{high:.4g}" if number > 1 else f"1 run at {low:.4g}"
    change = f"{run.centre / entry.centre - 1:+.0%}"
    centres = f"{entry.centre:.4g} -> {run.centre:.4g}"
    return f"stored {run.metric} {centres}  {change} ({of}, T {result.tolerance:.0%})"
