"""The time of a benchmark against what is stored of it, where the tests run."""

from dataclasses import replace
from math import log

import pytest

from pytest_pagedkv.baselines import Verdict
from pytest_pagedkv.baselines.timing import StoredResult, TimedRun, judge_timing, tolerance_of
from pytest_pagedkv.baselines.timing_schema import relative_deviation
from pytest_pagedkv.baselines.timing_store import Timings
from pytest_pagedkv.perf.source_hash import source_of
from pytest_pagedkv.perf.tested import TestedBenchmark
from pytest_pagedkv.report.result import Timing
from pytest_pagedkv.report.run import PerfRun

__all__ = ["departure", "fails_for", "judge_stored"]


def judge_stored(run: PerfRun, item: pytest.Item, benchmark: TestedBenchmark) -> StoredResult | None:
    """The verdict; None for a benchmark that was not timed, or whose clock no time is stored of."""
    return _result(run, item, benchmark, benchmark.timing) if benchmark.is_timed else None


def departure(run: PerfRun, item: pytest.Item, benchmark: TestedBenchmark, timing: Timing) -> float:
    """How far a time is from the stored ones, as a logarithm; 0 if it is neither worse nor better."""
    result = _result(run, item, benchmark, timing)
    if result is None or result.ratio is None or result.verdict not in (Verdict.WORSE, Verdict.BETTER):
        return 0.0
    return abs(log(result.ratio))


def _result(
    run: PerfRun, item: pytest.Item, benchmark: TestedBenchmark, timing: Timing | None
) -> StoredResult | None:
    timings = run.timings.get(benchmark.mark.metric)
    if timings is None:
        return None
    result = _judged(run, timings, benchmark, None if timing is None else _timed(item, timing))
    return replace(result, fails=fails_for(run, timings, benchmark.key, result))


def _timed(item: pytest.Item, timing: Timing) -> TimedRun:
    centre, spread = relative_deviation(timing.calibrated)
    return TimedRun(metric=timing.metric, centre=centre, spread=spread, source=source_of(item))


def _judged(
    run: PerfRun, timings: Timings, benchmark: TestedBenchmark, timed: TimedRun | None
) -> StoredResult:
    options, key, tolerance = run.options, benchmark.key, tolerance_of(benchmark.mark.tolerance)
    if timed is None:
        detail = "the clock of the GPU changed in every round"
        return StoredResult(verdict=Verdict.NOISY, tolerance=tolerance, detail=detail)
    if not options.is_comparable:
        detail = f"baselines belong to seed {options.project_seed}, this run has {options.seed}"
        return StoredResult(verdict=Verdict.INCOMPARABLE, tolerance=tolerance, detail=detail)
    if timings.are_elsewhere:
        detail = timings.problem
        return StoredResult(verdict=Verdict.INCOMPARABLE, tolerance=tolerance, detail=detail, run=timed)
    result = judge_timing(timed, timings.get(key), benchmark.mark.tolerance)
    is_required = options.require_baseline and timings.is_comparable and not run.stores_time(key)
    if result.verdict is Verdict.NEW and is_required:
        detail = "no time is stored, and others are"
        return replace(result, verdict=Verdict.MISSING, detail=detail)
    return result


def fails_for(run: PerfRun, timings: Timings, key: str, result: StoredResult) -> bool:
    """What is stored of another environment cannot be required, and a duet on this one knows better."""
    if result.verdict is Verdict.MISSING:
        return True
    if result.verdict is Verdict.INCOMPARABLE:
        return run.options.require_baseline and timings.is_comparable and not run.stores_time(key)
    duet = run.duets.get(key)
    is_same = duet is not None and duet.judgement is not None and duet.judgement.verdict is Verdict.SAME
    is_cleared = is_same or (duet is not None and duet.is_excused)
    return result.fails and not is_cleared and key not in run.options.accept
