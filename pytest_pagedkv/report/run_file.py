"""The text of `.pagedkv-perf/run.json`: all that a run found, for machines. An artifact, not a baseline."""

import json
import platform
import sys
from datetime import UTC, datetime
from typing import Any

from pytest_pagedkv.perf.meter import Timing
from pytest_pagedkv.perf.result import Result
from pytest_pagedkv.perf.run import PerfRun
from pytest_pagedkv.perf.second_pass import hash_seed

__all__ = ["run_as_json"]


def run_as_json(run: PerfRun, exit_code: int) -> str:
    """Everything, in the order of the keys."""
    data = {
        "schema": "pagedkv-run/1",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "exit_code": exit_code,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hash_seeds": [hash_seed(), run.second_pass and run.second_pass.hash_seed],
        "seed": run.options.seed,
        "benchmarks": {key: _benchmark(run, key, result) for key, result in sorted(run.results.items())},
        "stale": run.stale,
        "notes": run.notes,
        "errors": run.errors,
    }
    return json.dumps(data, indent=1) + "\n"


def _benchmark(run: PerfRun, key: str, result: Result) -> dict[str, Any]:
    measured, baseline = result.measured, run.baselines.get(key)
    return {
        "nodeid": result.nodeid,
        "outcomes": result.outcomes,
        "metric": measured.mark.metric,
        "threshold": measured.mark.tolerance,
        "group": measured.mark.group,
        "verdict": result.verdict,
        "details": measured.judgement and measured.judgement.details,
        "counters": measured.counters,
        "baseline": baseline and dict(baseline.counters),
        "timing": measured.timing and _timing(measured.timing),
    }


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "num_calls": timing.num_calls,
        "best_ns": timing.best_ns,
        "median_ns": timing.median_ns,
        "samples_ns": timing.samples_ns,
    }
