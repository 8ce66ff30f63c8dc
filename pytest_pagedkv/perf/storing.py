"""Updating the baselines, where the user asked for it and after the verdict."""

from collections.abc import Mapping

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines import Baselines, Entry, Verdict
from pytest_pagedkv.report.result import Result
from pytest_pagedkv.report.run import PerfRun

__all__ = ["store"]


def store(run: PerfRun) -> None:
    """Update the baselines as far as the user asked; `run.notes` and `run.errors` say what came of it."""
    changes = _changes(run)
    run.notes += _refusals(run)
    for part in run.baselines.by_file(changes):
        try:
            run.baselines.write(part)
        except BaselineError as error:
            run.errors.append(str(error))
        else:
            run.notes += _told(run.baselines, part)


def _changes(run: PerfRun) -> dict[str, Entry | None]:
    options = run.options
    stored: dict[str, Entry | None] = {
        key: Entry(result.measured.counters or {}, options.reason if key in options.accept else None)
        for key, result in run.results.items()
        if options.stores(key) and _is_storable(result)
    }
    return stored | dict.fromkeys(run.stale) if options.update else stored


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
        elif not _is_storable(result):
            refusals.append(f"{key}   nothing to accept: its counters are those of the baseline")
    return refusals


def _told(baselines: Baselines, changes: Mapping[str, Entry | None]) -> list[str]:
    stored = {baselines.shown_file(key) for key, entry in changes.items() if entry is not None}
    return [
        *(f"stored in {file}" for file in sorted(stored)),
        *(f"{key}   dropped, its test is gone" for key, entry in sorted(changes.items()) if entry is None),
    ]
