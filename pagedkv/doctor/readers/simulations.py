"""Results of `pagedkv replay --mode simulated --json`."""

from collections.abc import Mapping
from typing import Any

from pagedkv.doctor.readers.fields import number_in
from pagedkv.doctor.thresholds import StateThresholds
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source

__all__ = ["is_simulation", "judge_simulation"]

_PER_MILLION = 1e6


def is_simulation(plain: Mapping[str, Any]) -> bool:
    """Whether these values are the result of a simulation."""
    return "preemptions" in plain and "batch_size_sum" in plain and "makespan_ns" in plain


def judge_simulation(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> list[Finding]:
    """What a result shows."""
    judges = (_fragmentation, _copies, _preemption, _thrash)
    return [found for judge in judges if (found := judge(plain, file, limits)) is not None]


def _fragmentation(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    mean = number_in(plain, "fragmentation_mean_ppm") / _PER_MILLION
    num_blocks = number_in(plain, "num_blocks")
    free = 1 - number_in(plain, "peak_blocks") / num_blocks if num_blocks else 1.0
    if mean < limits.fragmentation_ratio or free > limits.short_pool_ratio:
        return None
    return Finding(
        pitfall=Pitfall.FRAGMENTATION,
        severity=Severity.CRITICAL if mean >= 1.5 * limits.fragmentation_ratio else Severity.WARNING,
        summary=f"{mean:.0%} of the slots in use held nothing on average, and the pool was full at times",
        evidence={
            "fragmentation_mean": mean,
            "fragmentation_limit": limits.fragmentation_ratio,
            "least_free_ratio": free,
            "free_ratio_limit": limits.short_pool_ratio,
        },
        advice=(
            Advice(
                f"--block-size 16 (now {number_in(plain, 'block_size'):.0f})",
                "a sequence wastes half a block on average",
            ),
        ),
        sources=(Source(file, 0, "fragmentation_mean_ppm"),),
    )


def _copies(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    copies, tokens = number_in(plain, "cow_copies"), number_in(plain, "generated_tokens")
    ratio = copies / tokens if tokens else 0.0
    if ratio < limits.copies_per_token:
        return None
    return Finding(
        pitfall=Pitfall.COW_EXPLOSION,
        severity=Severity.CRITICAL if ratio >= 2 * limits.copies_per_token else Severity.WARNING,
        summary=f"{copies:,.0f} blocks were copied on write, {ratio:.2f} for each generated token",
        evidence={
            "copies": copies,
            "copies_per_token": ratio,
            "copies_per_token_limit": limits.copies_per_token,
        },
        advice=(
            Advice("--fork-mode eager", "blocks are copied at the fork, not in decode steps"),
            Advice("narrower beams", "copies grow with the number of beams"),
        ),
        sources=(Source(file, 0, "cow_copies"),),
    )


def _preemption(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    preemptions, requests = number_in(plain, "preemptions"), number_in(plain, "requests")
    ratio = preemptions / requests if requests else 0.0
    if preemptions < limits.preempted_requests or ratio < limits.preemption_ratio:
        return None
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if ratio >= limits.critical_preemption_ratio else Severity.WARNING,
        summary=f"requests lost their blocks {preemptions:,.0f} times, {ratio:.2f} for each, "
        f"and {number_in(plain, 'recomputed_tokens'):,.0f} tokens were computed again",
        evidence={
            "preemptions": preemptions,
            "preemptions_limit": limits.preempted_requests,
            "preemptions_per_request": ratio,
            "preemptions_per_request_limit": limits.preemption_ratio,
            "recomputed_tokens": number_in(plain, "recomputed_tokens"),
            "max_waiting": number_in(plain, "max_waiting"),
        },
        advice=(
            Advice("--adaptive-batch-size", "after preemptions only as many run as the pool has room for"),
            Advice("a larger --num-blocks", "more sequences have room to end"),
        ),
        sources=(Source(file, 0, "preemptions"),),
    )


def _thrash(plain: Mapping[str, Any], file: str, limits: StateThresholds) -> Finding | None:
    page_ins = number_in(plain, "offload_num_page_ins")
    late, in_time = number_in(plain, "offload_num_late"), number_in(plain, "offload_num_in_time")
    again = number_in(plain, "offload_num_again") / page_ins if page_ins else 0.0
    late_ratio = late / (late + in_time) if late + in_time else 0.0
    if page_ins < limits.page_ins or (again < limits.again_ratio and late_ratio < limits.late_ratio):
        return None
    return Finding(
        pitfall=Pitfall.OFFLOAD_THRASH,
        severity=Severity.CRITICAL if again >= 2 * limits.again_ratio else Severity.WARNING,
        summary=f"{again:.0%} of the {page_ins:,.0f} pages that came back had only just left, "
        f"and requests waited for {late_ratio:.0%} of theirs",
        evidence={
            "page_ins": page_ins,
            "page_ins_limit": limits.page_ins,
            "again_ratio": again,
            "again_ratio_limit": limits.again_ratio,
            "late_ratio": late_ratio,
            "late_ratio_limit": limits.late_ratio,
        },
        advice=(
            Advice("a larger --pinned-gib", "fewer pages leave for the file and come back"),
            Advice("a larger --num-blocks", "fewer pages leave the device"),
        ),
        sources=(Source(file, 0, "offload_num_again"),),
    )
