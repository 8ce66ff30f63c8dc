"""What SGLang's lines amount to, and which of its options change it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity

if TYPE_CHECKING:
    from pagedkv.doctor.logs.sglang import SglangLog

__all__ = ["JUDGES"]

_CAREFUL = Advice(
    "a higher --schedule-conservativeness, such as 1.3", "new requests leave running ones room to grow"
)
_MORE_MEMORY = Advice(
    "a higher --mem-fraction-static", "a larger KV pool, as far as activations leave memory"
)
_FEWER = Advice(
    "a smaller --max-running-requests", "fewer run at once, and they end instead of being retracted"
)
_CHUNKS = Advice("a smaller --chunked-prefill-size", "long prompts hold decoding up for less time")
_BOLDER = Advice(
    "a lower --schedule-conservativeness, such as 0.3", "more are let in while the pool has room"
)


def _retraction(log: "SglangLog") -> Finding | None:
    limits, retracted = log.thresholds, log.retracted
    running = log.load.mean_running * log.load.num_busy
    ratio = retracted.total / running if running else 0.0
    if retracted.total < limits.preemptions or (running and ratio < limits.preemption_ratio / 10):
        return None
    is_critical = ratio >= limits.critical_preemption_ratio / 10
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=f"a full pool, {retracted.count:,} times; {retracted.total:,.0f} requests were retracted",
        evidence={
            "retracted_requests": retracted.total,
            "retracted_limit": limits.preemptions,
            "retractions": retracted.count,
            "retracted_per_running_request_and_line": ratio,
            "limit_of_that": limits.preemption_ratio / 10,
            **log.load.pressure(),
        },
        advice=(_CAREFUL, _MORE_MEMORY, _FEWER),
        sources=retracted.sources,
    )


def _collapse(log: "SglangLog") -> Finding | None:
    return log.load.collapse((_MORE_MEMORY, _CAREFUL, _FEWER), (_BOLDER, _CHUNKS))


def _eager_decoding(log: "SglangLog") -> Finding | None:
    limits, num_eager = log.thresholds, log.eager.count
    share = num_eager / max(1, log.num_decode)
    if num_eager < limits.least_lines or not log.has_graphs or share < limits.eager_ratio:
        return None
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.WARNING,
        summary=f"{share:.0%} of the decode lines ran without a CUDA graph, the others with one",
        evidence={
            "lines_without_graph": num_eager,
            "decode_lines": log.num_decode,
            "eager_ratio": share,
            "eager_ratio_limit": limits.eager_ratio,
        },
        advice=(Advice("a larger --cuda-graph-max-bs", "large batches replay a graph, too"),),
        sources=log.eager.sources,
    )


JUDGES: tuple[Callable[["SglangLog"], Finding | None], ...] = (_retraction, _collapse, _eager_decoding)
"""Each looks at one thing, and says nothing if it is as it should be."""
