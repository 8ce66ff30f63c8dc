"""What vLLM's lines amount to, and which of its options change it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity

if TYPE_CHECKING:
    from pagedkv.doctor.logs.vllm import VllmLog

__all__ = ["JUDGES"]

_MORE_MEMORY = Advice(
    "a higher --gpu-memory-utilization", "more KV blocks, as far as the device has memory left"
)
_FEWER = Advice("a smaller --max-num-seqs", "fewer run at once, and they end instead of losing their blocks")
_SHORTER = Advice("a smaller --max-model-len", "no request needs more blocks than the pool can give")
_SMALLER_KV = Advice("--kv-cache-dtype fp8", "half the bytes of a block, so twice the blocks")
_SPREAD = Advice("a larger --tensor-parallel-size", "weights take less of each device, KV gets more")
_PREFILL = Advice(
    "--enable-chunked-prefill and a smaller --max-num-batched-tokens", "long prompts hold nobody up"
)
_LONG_PROMPTS = Advice(
    "--long-prefill-token-threshold below the longest prompts",
    "a long prompt leaves room in its steps for others",
)


def _preemption(log: "VllmLog") -> Finding | None:
    limits, total = log.thresholds, log.num_preemptions
    running = log.load.mean_running * log.load.num_busy
    ratio = total / running if running else 0.0
    if total < limits.preemptions or (running and ratio < limits.preemption_ratio / 2):
        return None
    is_critical = ratio >= limits.critical_preemption_ratio
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=f"{total:,} requests lost their blocks to others and have to be computed again",
        evidence={
            "preemptions": total,
            "preemptions_limit": limits.preemptions,
            "preemptions_per_running_request_and_line": ratio,
            "limit_of_that": limits.preemption_ratio / 2,
            **log.load.pressure(),
        },
        advice=(_MORE_MEMORY, _FEWER, _SMALLER_KV, _SPREAD),
        sources=log.preempted.sources,
    )


def _collapse(log: "VllmLog") -> Finding | None:
    return log.load.collapse((_MORE_MEMORY, _FEWER, _SHORTER, _SMALLER_KV), (_PREFILL, _LONG_PROMPTS))


def _swapping(log: "VllmLog") -> Finding | None:
    limits, busy = log.thresholds, log.load.num_busy
    share = log.swapped.count / busy if busy else 0.0
    if busy < limits.least_lines or share < limits.swapped_ratio:
        return None
    return Finding(
        pitfall=Pitfall.OFFLOAD_THRASH,
        severity=Severity.WARNING,
        summary=f"requests are swapped out to the host in {share:.0%} of the busy lines, "
        f"{log.swapped.worst:,.0f} at worst",
        evidence={
            "swapped_lines": log.swapped.count,
            "busy_lines": busy,
            "swapped_ratio": share,
            "swapped_ratio_limit": limits.swapped_ratio,
            "preemptions_by_swapping": log.num_by_swapping,
        },
        advice=(
            Advice("--preemption-mode recompute", "nothing is copied; prompts are computed again"),
            _FEWER,
            _MORE_MEMORY,
        ),
        sources=log.swapped.sources,
    )


def _compilation(log: "VllmLog") -> Finding | None:
    limits, compiled = log.thresholds, log.compiled
    if compiled.count < limits.compilations:
        return None
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.WARNING,
        summary=f"{compiled.count:,} kernels were compiled while requests ran",
        evidence={"compilations": compiled.count, "compilations_limit": limits.compilations},
        advice=(
            Advice(
                "requests of the usual shapes before the server takes traffic; keep TRITON_CACHE_DIR",
                "kernels are compiled before somebody waits for them, and once",
            ),
        ),
        sources=compiled.sources,
    )


JUDGES: tuple[Callable[["VllmLog"], Finding | None], ...] = (_preemption, _collapse, _swapping, _compilation)
"""Each looks at one thing, and says nothing if it is as it should be."""
