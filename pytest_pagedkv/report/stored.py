"""What the terminal says about stored times, and about further meters."""

from collections import Counter
from collections.abc import Iterator

from pytest_pagedkv.baselines import Verdict
from pytest_pagedkv.baselines.timing import StoredResult
from pytest_pagedkv.report.run import PerfRun

__all__ = ["meter_lines", "stored_failure", "stored_notes", "stored_tally"]

_WORDS = {
    Verdict.SAME: "no change detected",
    Verdict.WORSE: "slower",
    Verdict.BETTER: "faster",
    Verdict.INCOMPARABLE: "incomparable",
    Verdict.NOISY: "too noisy",
    Verdict.NEW: "new",
    Verdict.MISSING: "missing",
}
_TOLD = (Verdict.WORSE, Verdict.BETTER, Verdict.INCOMPARABLE, Verdict.NOISY)


def stored_failure(result: StoredResult | None) -> tuple[str, ...]:
    """The line on a stored time that made its test fail."""
    return (result.detail,) if result is not None and result.fails else ()


def stored_notes(run: PerfRun) -> Iterator[str]:
    """What is seen and fails nothing; a reason that several benchmarks share is told once."""
    stored = {key: result for key, result in _stored(run).items() if not result.fails}
    shared = Counter(result.detail for result in stored.values() if result.verdict is Verdict.INCOMPARABLE)
    for key, result in stored.items():
        if result.verdict in _TOLD and shared[result.detail] <= 1:
            yield f"{key}   {result.detail}"
    for detail, number in shared.items():
        if number > 1:
            yield f"stored times of {number} benchmarks not compared: {detail}"


def stored_tally(run: PerfRun) -> Iterator[str]:
    """How many stored times did not change, where any is stored."""
    found = Counter(result.verdict for result in _stored(run).values())
    if found.keys() - {Verdict.NEW}:
        told = ", ".join(f"{found[verdict]} {word}" for verdict, word in _WORDS.items() if found[verdict])
        yield f" stored time: {told}"


def meter_lines(run: PerfRun) -> Iterator[str]:
    """What was measured besides time, a line for each benchmark."""
    told = {key: result.measured.meters for key, result in sorted(run.results.items())}
    if any(told.values()):
        yield " meters of one call (not compared)"
    for key, meters in told.items():
        if meters:
            yield f"  {key}  {', '.join(f'{name} {value}' for name, value in meters.items())}"


def _stored(run: PerfRun) -> dict[str, StoredResult]:
    """The verdicts, by key, of benchmarks that did their work."""
    return {
        key: result.measured.stored
        for key, result in sorted(run.results.items())
        if result.measured.stored is not None and result.passed_but_for_gate
    }
