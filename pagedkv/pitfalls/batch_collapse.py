"""Batch collapse: few sequences in a step while requests wait."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagedkv.checks import require_int, require_number
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity
from pagedkv.stats import StatsWindow

__all__ = ["BatchCollapseThresholds", "collapsed_steps", "detect_batch_collapse"]

_NS_PER_MS = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCollapseThresholds:
    """When a batch has collapsed.

    The first two are those of the log line "[Scheduler] Batch collapse detected".

    Args:
        reduced_ratio: share of its own moving average below which a batch is reduced, if requests wait.
        reduced_steps: steps in a row after which a reduced batch has collapsed.
        time_ratio: share of the time in steps that may pass in collapsed batches.
        critical_ratio: share from which on it is critical.

    Raises:
        ConfigError: a number is out of range.
    """

    reduced_ratio: float = 0.5
    reduced_steps: int = 8
    time_ratio: float = 0.05
    critical_ratio: float = 0.25

    def __post_init__(self) -> None:
        for name in ("reduced_ratio", "time_ratio", "critical_ratio"):
            require_number(name, getattr(self, name), 0, 1)
        require_int("reduced_steps", self.reduced_steps, 1)


def collapsed_steps(window: StatsWindow, thresholds: BatchCollapseThresholds) -> npt.NDArray[np.bool_]:
    """Steps of a collapsed batch, and 1, 2, .. steps before it was known as that. Shape `[num_steps]`."""
    average_steps = 32 if window.scheduler is None else window.scheduler.batch_average_steps
    collapsed = np.zeros(len(window), np.bool_)
    average, num_reduced = 0.0, 0
    sizes, waiting = window["batch_size"].tolist(), window["num_waiting"].tolist()
    for step, (size, num_waiting) in enumerate(zip(sizes, waiting, strict=True)):
        if num_waiting and size < thresholds.reduced_ratio * average:
            num_reduced += 1
            if num_reduced >= thresholds.reduced_steps:
                collapsed[step + 1 - num_reduced : step + 1] = True
        else:
            num_reduced = 0
            average += (size - average) / average_steps
    return collapsed


def detect_batch_collapse(window: StatsWindow, thresholds: BatchCollapseThresholds) -> Finding | None:
    """A finding if too much time passes in steps far below the usual batch, with requests waiting."""
    collapsed = collapsed_steps(window, thresholds)
    if not collapsed.any():
        return None
    duration = window["duration_ns"]
    ratio = float(duration[collapsed].sum()) / max(1, int(duration.sum()))
    if ratio <= thresholds.time_ratio:
        return None
    usual, reduced = (float(window["batch_size"][part].mean()) for part in (~collapsed, collapsed))
    longest_ms = int(window["longest_wait_ns"].max()) / _NS_PER_MS
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if ratio > thresholds.critical_ratio else Severity.WARNING,
        summary=f"{ratio:.0%} of the time passes with {reduced:.0f} sequences in a step, not {usual:.0f}, "
        "and requests waiting",
        evidence={
            "time_ratio": round(ratio, 4),
            "time_ratio_threshold": thresholds.time_ratio,
            "num_collapsed_steps": int(collapsed.sum()),
            "batch_size_mean": round(usual, 1),
            "collapsed_batch_size_mean": round(reduced, 1),
            "num_waiting_mean": round(float(window["num_waiting"][collapsed].mean()), 1),
            "longest_wait_ms": round(longest_ms, 1),
            "num_preempted": window.total("num_preempted"),
        },
        advice=_advice(window),
    )


def _advice(window: StatsWindow) -> tuple[Advice, ...]:
    settings = window.scheduler
    if settings is None:
        return (Advice("let requests begin together", "more sequences in a step"),)
    found = []
    if not settings.length_buckets:
        found.append(Advice("length_buckets=(512, 4096) (now none)", "short prompts begin beside long ones"))
    if not settings.adaptive_batch_size and window.total("num_preempted"):
        found.append(Advice("adaptive_batch_size=True (now False)", "fewer requests lose their blocks"))
    if settings.policy != "lifo":
        found.append(
            Advice(f'policy="lifo" (now "{settings.policy}")', "most wait less; who came first, more")
        )
    if not settings.batch_merge_window_ms:
        found.append(
            Advice("batch_merge_window_ms=20 (now 0)", "arrivals wait for each other and begin together")
        )
    return tuple(found)
