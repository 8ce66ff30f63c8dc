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
        advice=_advice(window, collapsed),
    )


def _advice(window: StatsWindow, collapsed: npt.NDArray[np.bool_]) -> tuple[Advice, ...]:
    """By what fills the collapsed steps: a prompt that takes their tokens, or a pool without free blocks."""
    settings = window.scheduler
    if settings is None:
        return (Advice("let requests begin together", "more sequences in a step"),)
    found = []
    in_prompts = float(window["num_prefill_tokens"][collapsed].mean())
    if in_prompts > _PROMPT_SHARE * settings.max_batch_tokens:
        chunk = max(1, settings.max_batch_tokens // 4)
        if settings.max_chunk_tokens is None or settings.max_chunk_tokens > chunk:
            found.append(
                Advice(
                    f"max_chunk_tokens={chunk} (now {settings.max_chunk_tokens})",
                    f"collapsed steps compute {in_prompts:,.0f} prompt tokens; a long prompt leaves "
                    f"{settings.max_batch_tokens - chunk:,} of {settings.max_batch_tokens:,} to others",
                )
            )
        if not settings.length_buckets:
            found.append(
                Advice(
                    "length_buckets=(4096,) (now none)", "short prompts begin before the long one takes all"
                )
            )
    if settings.policy != "lifo":
        found.append(
            Advice(
                f'policy="lifo" (now "{settings.policy}")',
                "who comes later does not wait for the one that does not fit, which waits longer instead",
            )
        )
    if (num := window.total("num_preempted")) and not settings.adaptive_batch_size:
        found.append(
            Advice(
                "adaptive_batch_size=True (now False)",
                f"fewer of these preemptions: {num}, {window.total('num_lost_tokens'):,} tokens lost",
            )
        )
    return tuple(found) or (
        Advice(f"num_blocks above {window.cache.num_blocks}", "more sequences have room at once"),
    )


_PROMPT_SHARE = 0.5
"""Of a step's tokens, from which on it is prompts that keep others from running."""
