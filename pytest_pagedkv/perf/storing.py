"""Updating the baselines, where the user asked for it and after the verdict."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines import Entry, Verdict, stale_keys
from pytest_pagedkv.baselines.store import Store
from pytest_pagedkv.baselines.timing import StoredResult, updated
from pytest_pagedkv.baselines.timing_schema import TimingEntry
from pytest_pagedkv.baselines.timing_store import Timings
from pytest_pagedkv.baselines.versioned import kept
from pytest_pagedkv.perf.accepting import changed_slowdowns
from pytest_pagedkv.perf.keys import file_of
from pytest_pagedkv.report.result import Result
from pytest_pagedkv.report.run import PerfRun

__all__ = ["store"]

E = TypeVar("E")

_TIMING = ("timing", "all")


def store(run: PerfRun) -> None:
    """Update the baselines as far as the user asked; `run.notes` and `run.errors` say what came of it."""
    run.notes += _refusals(run)
    for toolchain in run.toolchains():
        stored = run.stored(toolchain)
        for part in stored.by_file(_changes(run, toolchain)):
            _with_errors(run, partial(_write, run, stored, part))
    for lines in run.slowdowns.by_file(changed_slowdowns(run)):
        _with_errors(run, partial(_write, run, run.slowdowns, lines))
    for metric, timings in run.timings.items():
        _with_errors(run, partial(_store_times, run, timings, metric))


def _with_errors(run: PerfRun, write: Callable[[], None]) -> None:
    """Go on with the others where one part cannot be stored."""
    try:
        write()
    except BaselineError as error:
        run.errors.append(str(error))


def _write(run: PerfRun, stored: Store[E], part: Mapping[str, E | None]) -> None:
    stored.write(part)
    run.notes += [note for note in _told(stored, part) if note not in run.notes]


def _changes(run: PerfRun, toolchain: str) -> dict[str, Entry | None]:
    before = run.stored(toolchain)
    stored: dict[str, Entry | None] = {
        key: _entry(run, key, result, before.get(key))
        for key, result in run.results.items()
        if result.measured.toolchain == toolchain
        if run.options.stores(key, toolchain) and _is_storable(result)
    }
    if run.options.updates_counters(toolchain):
        stored |= {key: None for key in run.stale if before.get(key) is not None}
    return stored


def _entry(run: PerfRun, key: str, result: Result, before: Entry | None) -> Entry:
    """What was counted, and what other versions of Python counted."""
    others = {} if before is None else kept(before.counters)
    reason = run.options.reason if key in run.options.accept else None
    return Entry({**others, **(result.measured.counters or {})}, reason)


def _is_storable(result: Result) -> bool:
    verdict = result.verdict
    return result.passed and verdict is not None and (verdict.is_difference or verdict is Verdict.NEW)


def _refusals(run: PerfRun) -> list[str]:
    """Why benchmarks that were named one by one are not stored."""
    refusals = []
    for key in run.options.accept:
        result = run.results.get(key)
        if result is None or not result.passed:
            refusals.append(f"{key}   not accepted, because it did not pass")
        elif not (_is_storable(result) or _has_other_time(run, result) or _is_slower(run, key)):
            slower = ", and it is not slower than the base" if run.options.against else ""
            refusals.append(f"{key}   nothing to accept: its counters are those of the baseline{slower}")
    return refusals


def _is_slower(run: PerfRun, key: str) -> bool:
    """Its slowdown against another commit is accepted."""
    duet = run.duets.get(key)
    return duet is not None and duet.is_excused


def _has_other_time(run: PerfRun, result: Result) -> bool:
    """Its time would be stored for its being accepted."""
    measured = result.measured
    timings = run.timings.get(measured.mark.metric)
    is_other = measured.stored is not None and measured.stored.verdict is not Verdict.SAME
    return is_other and timings is not None and timings.is_comparable


def _told(stored: Store[E], changes: Mapping[str, E | None]) -> list[str]:
    files = {stored.shown_file(key) for key, entry in changes.items() if entry is not None}
    return [
        *(f"stored in {file}" for file in sorted(files)),
        *(f"{key}   dropped, its test is gone" for key, entry in sorted(changes.items()) if entry is None),
    ]


def _store_times(run: PerfRun, timings: Timings, metric: str) -> None:
    """Those of one metric. A benchmark is accepted by name only where its environment is stored at all."""
    options = run.options
    is_update = options.update in _TIMING
    wanted = {
        key: result.measured.stored
        for key, result in run.results.items()
        if result.passed and result.measured.mark.metric == metric and result.measured.stored is not None
        if is_update or (key in options.accept and timings.is_comparable)
    }
    reasons = {key: options.reason if key in options.accept else None for key in wanted}
    changes = {key: partial(_updated, result, reasons[key]) for key, result in wanted.items()}
    gone = stale_keys(timings.keys(), run.collected, lambda key: file_of(key, run.root)) if is_update else ()
    changed = timings.update({**changes, **dict.fromkeys(gone, _nothing)}) if changes or gone else []
    run.notes += [f"stored in {file}" for file in sorted({timings.shown_file(key) for key in changed})]
    run.notes += [
        f"{key}   its time is not stored, it is slower than what is; accept it with --pagedkv-accept"
        for key, result in wanted.items()
        if result.verdict is Verdict.WORSE and reasons[key] is None
    ]


def _updated(result: StoredResult, reason: str | None, entry: TimingEntry | None) -> TimingEntry | None:
    return updated(entry, result, reason)


def _nothing(_entry: TimingEntry | None) -> None:
    return None
