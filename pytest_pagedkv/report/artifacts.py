"""What a run leaves in `.pagedkv-perf/`: candidates for new baselines, and all it found, for machines."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_pagedkv.baselines import Entry, Verdict, hash_seed
from pytest_pagedkv.baselines.duet import DuetResult
from pytest_pagedkv.baselines.folder import write_atomic
from pytest_pagedkv.baselines.schema import COUNTERS, KERNELS
from pytest_pagedkv.baselines.timing import StoredResult
from pytest_pagedkv.report.publish import publish
from pytest_pagedkv.report.result import Result, Timing
from pytest_pagedkv.report.run import PerfRun

__all__ = ["write_artifacts"]

_WORST_FIRST = (
    Verdict.NONDETERMINISTIC,
    Verdict.WORSE,
    Verdict.MISSING,
    Verdict.INCOMPARABLE,
    Verdict.CHANGED,
    Verdict.NOISY,
    Verdict.BETTER,
    Verdict.NEW,
    Verdict.STALE,
    Verdict.SAME,
)


def write_artifacts(run: PerfRun, exit_code: int) -> Sequence[str]:
    """Write all of them; where that is impossible, a note says so and the run goes on.

    Returns:
        Lines to print, by which GitHub annotates files; none elsewhere.
    """
    data = _run_as_json(run, exit_code)
    folder: Path | None = run.options.report
    try:
        write_atomic(run.folder / ".gitignore", "*\n")
        run.candidates = _write_candidates(run)
        write_atomic(run.folder / "run.json", json.dumps(data, indent=1) + "\n")
    except OSError as error:
        run.notes.append(f"{run.folder.name} cannot be written: {error.strerror}")
        folder = None if run.options.report.is_relative_to(run.folder) else run.options.report
    published = publish(data, folder=folder, environ=os.environ)
    run.notes += published.notes
    return published.annotations


def _write_candidates(run: PerfRun) -> Path:
    """The folder to copy over the baselines: the stored files and what is new, with no other change."""
    folder = run.folder / "candidates"
    shutil.rmtree(folder, ignore_errors=True)
    for toolchain in run.toolchains():
        new: dict[str, Entry | None] = {
            key: Entry(result.measured.counters or {})
            for key, result in run.unstored().items()
            if result.measured.toolchain == toolchain
        }
        for name, text in run.stored(toolchain).with_changes(new).items():
            write_atomic(folder / (KERNELS if toolchain else COUNTERS) / name, text)
    return folder


def _run_as_json(run: PerfRun, exit_code: int) -> dict[str, Any]:
    """Everything, in the order of the keys."""
    return {
        "schema": "pagedkv-run/1",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "exit_code": exit_code,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hash_seeds": [hash_seed(), run.second_pass and run.second_pass.hash_seed],
        "seed": run.options.seed,
        "environment": _environment(run),
        "baselines": run.baselines.shown,
        "against": run.against and asdict(run.against),
        "benchmarks": {key: _benchmark(run, key, result) for key, result in sorted(run.results.items())},
        "stale": run.stale,
        "notes": run.notes,
        "errors": run.errors,
    }


def _benchmark(run: PerfRun, key: str, result: Result) -> dict[str, Any]:
    measured = result.measured
    baseline = run.stored(measured.toolchain).get(key)
    return {
        "nodeid": result.nodeid,
        "toolchain": measured.toolchain or None,
        "file": _file(run, result),
        "line": result.line,
        "outcomes": result.outcomes,
        "metric": None if measured.toolchain else measured.mark.metric,
        "threshold": measured.mark.tolerance,
        "group": measured.mark.group,
        "verdict": _overall(result, run.duets.get(key)),
        "failed_gate": measured.failed_gate,
        "counters_verdict": result.verdict,
        "duet": _duet(run.duets.get(key)),
        "details": measured.judgement and measured.judgement.details,
        "counters": measured.counters,
        "baseline": baseline and dict(baseline.counters),
        "timing": measured.timing and _timing(measured.timing),
        "stored": measured.stored and _stored(measured.stored),
        "meters": dict(measured.meters),
    }


def _file(run: PerfRun, result: Result) -> str | None:
    """The test's file from where GitHub sees it, which is the checkout; None for one from elsewhere."""
    if result.file is None:
        return None
    path = (run.root / result.file).resolve()
    top = Path(os.environ.get("GITHUB_WORKSPACE") or run.root).resolve()
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else None


def _overall(result: Result, duet: DuetResult | None) -> Verdict | None:
    """The worst of all verdicts."""
    stored = result.measured.stored
    found = [
        result.verdict,
        duet and duet.judgement and duet.judgement.verdict,
        stored and stored.verdict if stored and (stored.fails or stored.verdict.is_difference) else None,
    ]
    return min((verdict for verdict in found if verdict), key=_WORST_FIRST.index, default=None)


def _environment(run: PerfRun) -> dict[str, Any] | None:
    """That of the device, where its times are measured too."""
    timings = run.timings.get(run.options.device)
    if timings is None:
        return None
    here = timings.here
    return {"slug": here.slug, "fields": dict(here.compared), "recorded": dict(here.recorded)}


def _stored(result: StoredResult) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "detail": result.detail,
        "ratio": result.ratio,
        "tolerance": result.tolerance,
        **(asdict(result.run) if result.run else {"centre": None}),
        "baseline_centre": result.baseline_centre,
        "history": result.history,
        "is_gated": result.fails,
    }


def _duet(duet: DuetResult | None) -> dict[str, Any] | None:
    if duet is None:
        return None
    pairs = [("screen", duet.screen), *(("confirm", pair) for pair in duet.confirm)]
    return {
        "verdict": duet.judgement and duet.judgement.verdict,
        "detail": "; ".join(duet.judgement.details) if duet.judgement else "",
        "metric": duet.metric,
        "threshold": duet.threshold,
        "effect": duet.effect,
        "low": duet.low,
        "high": duet.high,
        "base_ns": duet.base_ns,
        "head_ns": duet.head_ns,
        "num_calls": duet.num_calls,
        "accepted": duet.accepted and asdict(duet.accepted),
        "base_counters": duet.counters,
        "meters": duet.meters,
        "pairs": [{"stage": stage} | asdict(pair) for stage, pair in pairs if pair is not None],
    }


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "metric": timing.metric,
        "num_calls": timing.num_calls,
        "best_ns": timing.best_ns,
        "median_ns": timing.median_ns,
        "samples_ns": timing.samples_ns,
        "reference_ns": timing.reference_ns,
    }
