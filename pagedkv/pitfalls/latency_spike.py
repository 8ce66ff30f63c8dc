"""Latency spike: some steps take much longer than like ones, because they wait."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagedkv.checks import require_int, require_number
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity
from pagedkv.pitfalls.step_times import decode_intervals, decodes_alone, usual_times
from pagedkv.stats import StatsWindow

__all__ = ["LatencySpikeThresholds", "detect_latency_spike"]

_NS_PER_MS = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySpikeThresholds:
    """When steps wait too often or too long.

    Only steps that decode are compared, each with what as many sequences with as long contexts usually take:
    a step that computes a prompt is long because of its work.

    Args:
        spike_ratio: times that, which 1% of decode steps may exceed. In simulations of healthy runs the 99th
            percentile is below 1.1; on a machine with other work below 2.
        sync_ratio: share of the time in steps that may pass in waiting for copies. Copies that run beside
            steps cost them nothing, so that a tenth is a lot.
        compile_ratio: times a usual decode step that a compilation inside a step may take: one takes
            hundreds.
        critical_ratio: times a usual decode step from which on it is critical, in the 99th percentile or by
            compilation.
        least_steps: decode steps without which nothing is said of percentiles.

    Raises:
        ConfigError: a number is out of range.
    """

    spike_ratio: float = 2.0
    sync_ratio: float = 0.1
    compile_ratio: float = 2.0
    critical_ratio: float = 5.0
    least_steps: int = 100

    def __post_init__(self) -> None:
        for name in ("spike_ratio", "compile_ratio", "critical_ratio"):
            require_number(name, getattr(self, name), 1, math.inf)
        require_number("sync_ratio", self.sync_ratio, 0, 1)
        require_int("least_steps", self.least_steps, 1)


def detect_latency_spike(window: StatsWindow, thresholds: LatencySpikeThresholds) -> Finding | None:
    """A finding if decode steps spike, if steps wait for copies, or if kernels are compiled in them."""
    usual_ns, p99_ratio, causes = _spikes(window, thresholds)
    sync_ratio = window.total("sync_ns") / max(1, window.total("duration_ns"))
    compile_ratio = int(window["compile_ns"].max()) / max(1.0, usual_ns)
    is_compiled = compile_ratio > thresholds.compile_ratio
    is_spiky = p99_ratio > thresholds.spike_ratio
    if not (is_spiky or is_compiled or sync_ratio > thresholds.sync_ratio):
        return None
    worst = max(p99_ratio, compile_ratio if is_compiled else 0.0)
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.CRITICAL if worst > thresholds.critical_ratio else Severity.WARNING,
        summary=_summary(window, p99_ratio if is_spiky else 0.0, sync_ratio, is_compiled, causes),
        evidence={
            "p99_over_usual": round(p99_ratio, 2),
            "spike_ratio_threshold": thresholds.spike_ratio,
            **_percentiles(window),
            "sync_ratio": round(sync_ratio, 4),
            "sync_ratio_threshold": thresholds.sync_ratio,
            "num_steps_with_sync": int((window["sync_ns"] > 0).sum()),
            "num_steps_with_compilation": int((window["compile_ns"] > 0).sum()),
            "compile_ms_max": round(int(window["compile_ns"].max()) / _NS_PER_MS, 1),
            "num_steps_with_copies_and_page_ins": int(
                ((window["num_copies"] > 0) & (window["num_page_ins"] > 0)).sum()
            ),
            **_overlap(window),
            **{f"spikes_{name}_share": round(share, 4) for name, share in causes.items()},
        },
        advice=_advice(window, is_compiled=is_compiled, is_spiky=is_spiky),
    )


def _spikes(
    window: StatsWindow, thresholds: LatencySpikeThresholds
) -> tuple[float, float, Mapping[str, float]]:
    """A usual decode step, the 99th percentile over what like ones take, and where the excess went."""
    times = decode_intervals(window)
    if not len(times):
        return float(np.median(window["duration_ns"])), 0.0, {}
    if len(times) < thresholds.least_steps:
        return float(np.median(times)), 0.0, {}
    usual = usual_times(window)
    ratios = times / usual
    p99_ratio = float(np.percentile(ratios, 99, method="inverted_cdf"))
    return float(np.median(usual)), p99_ratio, _causes(window, ratios > thresholds.spike_ratio, usual)


def _causes(
    window: StatsWindow, spikes: npt.NDArray[np.bool_], usual: npt.NDArray[np.float64]
) -> Mapping[str, float]:
    """Share of what spikes took more than like steps, by what they waited for."""
    if not spikes.any():
        return {}
    alone = decodes_alone(window)
    excess = max(1.0, float((decode_intervals(window) - usual)[spikes].sum()))
    columns = {"sync": "sync_ns", "compilation": "compile_ns", "between_steps": "between_ns"}
    sums = {name: float(window[column][alone][spikes].sum()) for name, column in columns.items()}
    return {name: min(1.0, total / excess) for name, total in sums.items()}


def _percentiles(window: StatsWindow) -> dict[str, float]:
    times = decode_intervals(window)
    if not len(times):
        return {}
    p50, p99 = (int(each) for each in np.percentile(times, (50, 99), method="inverted_cdf"))
    return {"decode_p50_ms": round(p50 / _NS_PER_MS, 2), "decode_p99_ms": round(p99 / _NS_PER_MS, 2)}


def _overlap(window: StatsWindow) -> dict[str, float]:
    """Share of the time of copies between device and host that steps did not notice."""
    if not (copied := window.total("link_ns")):
        return {}
    seen = window.total("sync_ns") + window.total("page_idle_ns")
    return {"copy_overlap": round(max(0.0, 1 - seen / copied), 4)}


def _summary(
    window: StatsWindow, p99_ratio: float, sync_ratio: float, is_compiled: bool, causes: Mapping[str, float]
) -> str:
    parts = []
    if p99_ratio:
        cause = max(causes, key=lambda name: causes[name], default="")
        why = _WHY[cause] if cause and causes[cause] > _MAIN else "nothing that is counted explains it"
        parts.append(f"1% of decode steps take more than {p99_ratio:.1f} times as long as like ones ({why})")
    if is_compiled:
        num_steps = int((window["compile_ns"] > 0).sum())
        total_ms = window.total("compile_ns") / _NS_PER_MS
        parts.append(f"{num_steps} steps compiled kernels, for {total_ms:,.0f} ms")
    if not parts:
        parts.append(f"{sync_ratio:.0%} of the time in steps passes in waiting for copies")
    return "; ".join(parts)


_MAIN = 0.3
_WHY = {
    "sync": "they wait for copies between device and host",
    "compilation": "they compile kernels",
    "between_steps": "the time passes between steps",
}


def _advice(window: StatsWindow, *, is_compiled: bool, is_spiky: bool) -> tuple[Advice, ...]:
    found = []
    offload, settings = window.offload, window.scheduler
    waits = window.total("sync_ns") > 0
    if is_compiled:
        found.append(Advice("warm_up=True", "kernels are compiled before the first request comes"))
    if offload is not None and waits:
        if not offload.io_streams:
            found.append(Advice("io_streams=2 (now 0)", "copies run beside steps, which do not wait"))
        if not offload.deferred_events:
            found.append(
                Advice(
                    "deferred_events=True (now False)",
                    "requests begin when their pages have come; the steps of others do not wait",
                )
            )
        if offload.io_streams and offload.deferred_events:
            found.append(
                Advice(
                    "a smaller max_chunk_tokens, or more num_blocks",
                    "fewer blocks are evicted in one step than the staging buffer takes",
                )
            )
    if settings is not None and not settings.batch_period_ms and is_spiky:
        p99_ms = _percentiles(window).get("decode_p99_ms", 0.0)
        found.append(
            Advice(
                f"batch_period_ms={math.ceil(p99_ms)} (now 0)",
                "tokens come evenly, and as slowly as in the longest steps",
            )
        )
    return tuple(found) or (Advice("look at a profile of the spikes", "the ranges of docs/tracing.md"),)
