"""What pagedkv's own lines amount to."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pagedkv.doctor.logs.kind import sources_of
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity

if TYPE_CHECKING:
    from pagedkv.doctor.logs.ours import OurLog

__all__ = ["JUDGES"]


def _fragmentation(log: "OurLog") -> Finding | None:
    limits = log.thresholds
    is_read = log.wasteful.count >= limits.fragmentation_readings
    is_short = bool(log.crossings.count and (log.preempted.count or log.collapsed.count))
    if not is_read and (log.num_readings or not is_short):
        return None
    worst = log.wasteful.worst if is_read else limits.fragmentation_ratio
    return Finding(
        pitfall=Pitfall.FRAGMENTATION,
        severity=Severity.CRITICAL if worst >= 1.5 * limits.fragmentation_ratio else Severity.WARNING,
        summary=f"more than {worst:.0%} of the slots in use hold nothing, while the pool is short"
        if not is_read
        else f"up to {worst:.0%} of the slots in use hold nothing, while the pool is nearly full",
        evidence={
            "fragmentation_max": worst,
            "fragmentation_limit": limits.fragmentation_ratio,
            "readings_in_a_full_pool": log.wasteful.count,
            "crossings": log.crossings.count,
            "preemptions": log.preempted.count,
        },
        advice=(
            Advice("block_size=16, if it is larger", "a sequence wastes half a block on average"),
            Advice("prefix_caching=True", "equal prefixes share their blocks"),
            Advice("a higher watermark_ratio", "sequences that run have room to end before others begin"),
        ),
        sources=sources_of(log.wasteful) or sources_of(log.crossings),
    )


def _copies(log: "OurLog") -> Finding | None:
    limits, copies = log.thresholds, log.copies
    if copies.count < limits.copy_steps:
        return None
    per_step = copies.total / copies.count
    per_token = copies.total / log.num_generated if log.num_generated else 0.0
    is_found = (
        per_token >= limits.copies_per_token if log.num_generated else per_step >= limits.copies_per_step
    )
    if not is_found:
        return None
    return Finding(
        pitfall=Pitfall.COW_EXPLOSION,
        severity=Severity.CRITICAL if per_token >= 2 * limits.copies_per_token else Severity.WARNING,
        summary=f"{copies.total:,.0f} blocks were copied on write, {per_step:.1f} in a step that copies"
        + (f", {per_token:.2f} for each generated token" if log.num_generated else ""),
        evidence={
            "copies": copies.total,
            "steps_with_copies": copies.count,
            "copies_per_step": per_step,
            "copies_per_step_limit": limits.copies_per_step,
            "copies_per_token": per_token,
            "copies_per_token_limit": limits.copies_per_token,
        },
        advice=(
            Advice('fork_mode="eager"', "blocks are copied at the fork, not in decode steps"),
            Advice("a smaller beam_width or n", "copies grow with the number of beams"),
            Advice("a smaller block_size", "a copy moves fewer slots"),
        ),
        sources=sources_of(copies),
    )


def _collapse(log: "OurLog") -> Finding | None:
    limits = log.thresholds
    if not log.collapsed.count:
        return None
    worst = log.reduced.worst
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if log.collapsed.count >= limits.collapses else Severity.WARNING,
        summary=f"the batch collapsed {log.collapsed.count:,} times while requests waited"
        + (f", at worst to 1/{worst:.1f} of its average" if worst >= 2 else ""),
        evidence={
            "collapses": log.collapsed.count,
            "collapses_for_critical": limits.collapses,
            "reductions": log.reduced.count,
            "worst_reduction": worst,
            "preemptions": log.preempted.count,
        },
        advice=(
            Advice("adaptive_batch_size=True", "after preemptions only as many run as the pool has room for"),
            Advice(
                "batch_merge_window_ms above 0", "arrivals are computed together; the batch grows at once"
            ),
            Advice("length_buckets", "short prompts do not wait for a long one's step"),
            Advice('policy="lifo"', "who came last goes first; see docs/scheduler.md for what it costs"),
        ),
        sources=sources_of(log.collapsed, log.reduced),
    )


def _preemption(log: "OurLog") -> Finding | None:
    limits, lost = log.thresholds, log.preempted
    ratio = lost.count / log.num_finished if log.num_finished else 0.0
    if lost.count < limits.preemptions or (log.num_finished and ratio < limits.preemption_ratio):
        return None
    is_critical = ratio >= limits.critical_preemption_ratio
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=f"requests lost their blocks {lost.count:,} times, with {lost.total:,.0f} computed tokens",
        evidence={
            "preemptions": lost.count,
            "preemptions_limit": limits.preemptions,
            "lost_tokens": lost.total,
            "finished_requests": log.num_finished,
            "preemptions_per_request": ratio,
            "preemptions_per_request_limit": limits.preemption_ratio,
        },
        advice=(
            Advice("a larger num_blocks", "more sequences have room to end"),
            Advice("adaptive_batch_size=True", "after preemptions only as many run as the pool has room for"),
            Advice("a higher watermark_ratio, or a smaller max_running", "fewer run at once, and they end"),
        ),
        sources=sources_of(lost),
    )


def _thrash(log: "OurLog") -> Finding | None:
    limits, stalls = log.thresholds, log.stalls
    ratio = stalls.count / log.num_paged_in if log.num_paged_in else 0.0
    is_stalled = stalls.count >= limits.stalls and (not log.num_paged_in or ratio >= limits.stall_ratio)
    if not is_stalled and log.throttled.count < limits.throttled:
        return None
    return Finding(
        pitfall=Pitfall.OFFLOAD_THRASH,
        severity=Severity.CRITICAL if ratio >= 4 * limits.stall_ratio else Severity.WARNING,
        summary=f"{stalls.count:,} page-ins stalled, and copies were held back {log.throttled.count:,} times",
        evidence={
            "stalls": stalls.count,
            "stalls_limit": limits.stalls,
            "page_ins": log.num_paged_in,
            "stall_ratio": ratio,
            "stall_ratio_limit": limits.stall_ratio,
            "page_ins_over_20ms": log.late.count,
            "throttled": log.throttled.count,
            "throttled_limit": limits.throttled,
        },
        advice=(
            Advice("a larger pinned_bytes", "fewer pages leave for the file and come back"),
            Advice("more io_threads, a larger queue_depth", "reads of the file run beside each other"),
            Advice("a larger prefetch_blocks", "pages are there before the turn of their request"),
        ),
        sources=sources_of(stalls, log.throttled),
    )


def _slow_steps(log: "OurLog") -> Finding | None:
    limits, slow = log.thresholds, log.slow_steps
    if slow.count < limits.slow_steps:
        return None
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.CRITICAL if slow.worst >= limits.slow_step_ratio else Severity.WARNING,
        summary=f"{slow.count:,} steps took far longer than the median, one {slow.worst:.1f} times as long",
        evidence={
            "slow_steps": slow.count,
            "slow_steps_limit": limits.slow_steps,
            "worst_ratio": slow.worst,
            "critical_ratio": limits.slow_step_ratio,
            "stream_waits": log.waits.count,
        },
        advice=(
            Advice("a smaller max_chunk_tokens", "no step computes a long piece of a prompt"),
            Advice("more io_streams", "copies do not wait for each other, nor steps for them"),
            Advice("warm up before the first request", "no kernel is compiled inside a step"),
        ),
        sources=sources_of(slow, log.waits),
    )


JUDGES: tuple[Callable[["OurLog"], Finding | None], ...] = (
    _fragmentation,
    _copies,
    _collapse,
    _preemption,
    _thrash,
    _slow_steps,
)
"""Each looks at one thing, and says nothing if it is as it should be."""
