"""The section "pagedkv perf" of the terminal report."""

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_pagedkv.baselines import Verdict
from pytest_pagedkv.perf.artifacts import candidates_folder
from pytest_pagedkv.perf.meter import Timing
from pytest_pagedkv.perf.result import Result
from pytest_pagedkv.perf.run import PerfRun
from pytest_pagedkv.perf.second_pass import hash_seed

if TYPE_CHECKING:
    import pytest

__all__ = ["duration", "write_section"]

_VERDICT_WORDS = {
    Verdict.SAME: "unchanged",
    Verdict.BETTER: "improved",
    Verdict.WORSE: "worse",
    Verdict.CHANGED: "changed",
    Verdict.NEW: "new",
    Verdict.MISSING: "missing",
    Verdict.NONDETERMINISTIC: "nondeterministic",
    Verdict.INCOMPARABLE: "incomparable",
}
_WORDS = [*_VERDICT_WORDS.values(), "without counters", "failed otherwise", "not run"]
_UNITS = (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0))


def write_section(terminal: "pytest.TerminalReporter", run: PerfRun) -> None:
    """Write failures, notes, new benchmarks, the count of the rest, and the timings."""
    if not run.results:
        return
    terminal.section("pagedkv perf")
    terminal.write_line(_headline(run))
    for word, text in _lines(run):
        terminal.write_line(f" {word:5} {text}", red=word in ("FAIL", "ERROR"))
    terminal.write_line(f" {_tally(run)}")
    for line in _timing_table(run):
        terminal.write_line(line)


def _headline(run: PerfRun) -> str:
    seeds = f"{hash_seed()} and {run.second_pass.hash_seed}" if run.second_pass else hash_seed()
    number = f"{len(run.results)} benchmark{'s' * (len(run.results) != 1)}"
    return f"{number}, baselines {run.baselines.shown}, counted under PYTHONHASHSEED {seeds}"


def _lines(run: PerfRun) -> Iterator[tuple[str, str]]:
    results = sorted(run.results.items())
    yield from (("FAIL", _told(key, result)) for key, result in results if result.failed_gate)
    yield from (("note", _told(key, result)) for key, result in results if _is_noted(result))
    yield from (("note", note) for note in run.notes)
    yield from (("ERROR", error) for error in run.errors)
    new = run.unstored()
    yield from (("new", f"{key}   {len(new[key].measured.counters or {})} counters") for key in sorted(new))
    if new:
        yield "", f"accept the new ones with: {_accept_command(run)}"
    if run.stale and not run.options.update:
        yield from (("stale", f"{key}   its test is gone") for key in run.stale)
        yield "", "drop the stale ones with: pytest --pagedkv-perf --pagedkv-update"


def _is_noted(result: Result) -> bool:
    """Differs, and did not fail for it."""
    verdict = result.verdict
    if verdict is None or result.failed_gate:
        return False
    return verdict.is_difference or verdict is Verdict.INCOMPARABLE


def _told(key: str, result: Result) -> str:
    details = result.measured.judgement.details if result.measured.judgement else ()
    return f"{key}   {', '.join(details)}"


def _accept_command(run: PerfRun) -> str:
    """A copy: it takes in the new benchmarks and nothing else that this run may have found."""
    candidates = os.path.relpath(candidates_folder(run.root))
    return f"mkdir -p {_quoted(run)} && cp -r {shlex.quote(candidates)} {_quoted(run)}/"


def _quoted(run: PerfRun) -> str:
    return shlex.quote(run.baselines.shown)


def _tally(run: PerfRun) -> str:
    words = Counter(_word(result) for result in run.results.values())
    return ", ".join(f"{words[word]} {word}" for word in sorted(words, key=_WORDS.index))


def _word(result: Result) -> str:
    if not result.did_run:
        return "not run"
    if result.measured.counters is None or not result.passed_but_for_gate:
        return "failed otherwise"
    return "without counters" if result.verdict is None else _VERDICT_WORDS[result.verdict]


def _timing_table(run: PerfRun) -> Iterator[str]:
    timings = {key: result.measured.timing for key, result in sorted(run.results.items())}
    rows = [_row(key, timing) for key, timing in timings.items() if timing is not None]
    if not rows:
        return
    yield f" times of one call (not compared){_not_shared(run)}"
    rows.insert(0, ("", "best", "median", "rounds x calls"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = (f"{number:>{width}}" for number, width in zip(numbers, widths[1:], strict=True))
        yield f"  {name:<{widths[0]}}  {'  '.join(cells)}"


def _row(key: str, timing: Timing) -> tuple[str, str, str, str]:
    size = f"{len(timing.samples_ns)} x {timing.num_calls}"
    return f"{key} {timing.metric}", duration(timing.best_ns), duration(timing.median_ns), size


def _not_shared(run: PerfRun) -> str:
    timings = [result.measured.timing for result in run.results.values()]
    reasons = sorted({timing.shared for timing in timings if timing is not None and timing.shared})
    return f", not in pytest-benchmark's report: {'; '.join(reasons)}" if reasons else ""


def duration(nanoseconds: float) -> str:
    """Three digits and a unit."""
    unit, size = next((unit for unit in _UNITS if nanoseconds >= unit[1]), _UNITS[-1])
    return f"{nanoseconds / size:.3g}{unit}"
