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
    if log.block_size:
        return _copied_slots(log)
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
        advice=_fewer_copies("block_size=16, if it is larger"),
        sources=sources_of(copies),
    )


def _copied_slots(log: "OurLog") -> Finding | None:
    """As the detector judges: by slots copied for each token that is written."""
    limits, num_written = log.thresholds, max(log.num_written, log.num_generated)
    amplification = log.num_copied_slots / max(1, num_written)
    if log.copied.total < limits.copies or amplification <= limits.slots_per_token:
        return None
    is_critical = amplification > limits.critical_slots_per_token
    return Finding(
        pitfall=Pitfall.COW_EXPLOSION,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=f"{amplification:.1f} slots are copied for each token that is written, in blocks of "
        f"{log.block_size}",
        evidence={
            "slots_per_token": amplification,
            "slots_per_token_limit": limits.slots_per_token,
            "copies": log.copied.total,
            "copies_limit": limits.copies,
            "written_tokens": num_written,
            "block_size": log.block_size,
        },
        advice=_fewer_copies(f"block_size=16 (now {log.block_size})" if log.block_size > 16 else ""),
        sources=sources_of(log.copies, log.copied)[:2],
    )


def _fewer_copies(smaller_blocks: str) -> tuple[Advice, ...]:
    """What helps, by docs/pitfalls.md; eager copies do not."""
    found = (
        Advice(smaller_blocks, "a copy moves a block, so that it moves fewer slots"),
        Advice("a smaller beam_width or n", "copies grow with the number of forks"),
        Advice('fork_mode="full_blocks"', "no copies; each fork computes up to a block of tokens instead"),
    )
    return found if smaller_blocks else found[1:]


def _collapse(log: "OurLog") -> Finding | None:
    limits = log.thresholds
    if not (count := log.collapsed.count):
        return None
    is_over = log.num_grown >= count
    ratio = log.collapsed_ms / log.steps_ms if log.steps_ms else 0.0
    if is_over and log.steps_ms and ratio <= limits.collapsed_time_ratio:
        return None
    worst = log.reduced.worst
    is_critical = count >= limits.collapses or ratio > limits.critical_collapsed_time_ratio
    return Finding(
        pitfall=Pitfall.BATCH_COLLAPSE,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=f"the batch collapsed {count:,} time{'s' if count > 1 else ''} while requests waited"
        + (f", at worst to 1/{worst:.1f} of its average" if worst >= 2 else "")
        + (f", for {ratio:.0%} of the time in steps" if ratio and is_over else "")
        + ("" if is_over or not log.num_grown else "; it did not end in this log"),
        evidence={
            "collapses": count,
            "collapses_for_critical": limits.collapses,
            "collapsed_time_ratio": ratio,
            "collapsed_time_ratio_limit": limits.collapsed_time_ratio,
            "reductions": log.reduced.count,
            "worst_reduction": worst,
            "preemptions": log.preempted.count,
        },
        advice=_larger_batches(log),
        sources=sources_of(log.collapsed, log.reduced),
    )


def _larger_batches(log: "OurLog") -> tuple[Advice, ...]:
    """By what keeps requests waiting: blocks, if some lost theirs, or else a long prompt's share of steps."""
    later = Advice('policy="lifo"', "who came last goes first; see docs/scheduler.md for what it costs")
    if log.preempted.count:
        return (Advice("a larger num_blocks", "more sequences have room at once"), later)
    return (
        Advice("a smaller max_chunk_tokens", "a long prompt leaves room in its steps for others"),
        Advice("length_buckets", "short prompts begin before a long one takes all"),
        later,
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
    wait_ratio = log.waited_ms / log.all_ms if log.all_ms else 0.0
    if log.all_ms and log.num_paged_in:
        is_found = wait_ratio > (limits.wait_ratio if is_stalled else limits.long_wait_ratio)
        is_critical = wait_ratio > limits.critical_wait_ratio
    else:
        is_found = is_stalled or log.throttled.count >= limits.throttled
        is_critical = ratio >= 4 * limits.stall_ratio
    if not is_found:
        return None
    return Finding(
        pitfall=Pitfall.OFFLOAD_THRASH,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=(f"requests wait for pages for {wait_ratio:.0%} of the time; " if wait_ratio else "")
        + f"{stalls.count:,} page-ins stalled, and copies were held back {log.throttled.count:,} times",
        evidence={
            "wait_ratio": wait_ratio,
            "wait_ratio_limit": limits.wait_ratio if is_stalled else limits.long_wait_ratio,
            "stalls": stalls.count,
            "stalls_limit": limits.stalls,
            "page_ins": log.num_paged_in,
            "stall_ratio": ratio,
            "stall_ratio_limit": limits.stall_ratio,
            "page_ins_over_20ms": log.late.count,
            "throttled": log.throttled.count,
            "throttled_limit": limits.throttled,
        },
        advice=_earlier_pages(log),
        sources=sources_of(stalls, log.throttled, log.late),
    )


def _earlier_pages(log: "OurLog") -> tuple[Advice, ...]:
    found = [
        Advice("a larger prefetch_blocks", "pages are there before the turn of their request"),
        Advice("a larger pinned_bytes", "fewer pages leave for the file and come back"),
    ]
    if log.throttled.count:
        found.append(Advice("a larger queue_depth", "reads of the file go on while a long step runs"))
        found.append(Advice("io_threads=4, if it is less", "the disk reads while checksums are computed"))
    return tuple(found)


def _spikes(log: "OurLog") -> Finding | None:
    limits, slow, compiled = log.thresholds, log.slow_steps, log.compiled
    spike_ratio = log.spikes.total / log.num_decodes if log.num_decodes else 0.0
    if log.num_decodes >= limits.decodes:
        is_slow = spike_ratio > limits.spike_ratio
    else:
        is_slow = slow.count >= limits.slow_steps
    sync_ratio = log.still_ms / log.steps_ms if log.steps_ms else 0.0
    step_ms = max(0.1, (log.steps_ms - compiled.total) / log.num_steps) if log.num_steps else 0.0
    is_compiled = compiled.worst > (limits.compile_ratio * step_ms if step_ms else limits.compile_ms)
    if not (is_slow or is_compiled or sync_ratio > limits.sync_ratio):
        return None
    parts = [_said_slow(log, spike_ratio)] if is_slow else []
    if is_compiled:
        parts.append(f"{compiled.count:,} steps compiled kernels, for {compiled.total:,.0f} ms")
    if sync_ratio > limits.sync_ratio:
        parts.append(f"{sync_ratio:.0%} of the time in steps passed in waiting for copies")
    is_critical = (is_slow and slow.worst >= limits.slow_step_ratio) or is_compiled
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.CRITICAL if is_critical else Severity.WARNING,
        summary=", and ".join(parts),
        evidence={
            "slow_steps": slow.count,
            "slow_steps_limit": limits.slow_steps,
            "decodes": log.num_decodes,
            "spike_ratio": spike_ratio,
            "spike_ratio_limit": limits.spike_ratio,
            "worst_ratio": slow.worst,
            "critical_ratio": limits.slow_step_ratio,
            "stream_waits": log.waits.count,
            "sync_ratio": sync_ratio,
            "sync_ratio_limit": limits.sync_ratio,
            "compilations": compiled.count,
            "compile_ms_max": compiled.worst,
        },
        advice=_evener_steps(log, is_compiled=is_compiled),
        sources=sources_of(
            *(each for each in (slow if slow.count else log.spikes, compiled, log.waits) if each.count)
        ),
    )


def _said_slow(log: "OurLog", spike_ratio: float) -> str:
    if log.num_decodes >= log.thresholds.decodes:
        return f"{spike_ratio:.1%} of the decodes took more than twice as long as like ones"
    slow = log.slow_steps
    return f"{slow.count:,} steps took far longer than the median, one {slow.worst:.1f} times as long"


def _evener_steps(log: "OurLog", *, is_compiled: bool) -> tuple[Advice, ...]:
    """By what steps wait for, as far as the log says."""
    found = []
    if is_compiled:
        found.append(Advice("warm_up=True", "kernels are compiled before the first request"))
    if log.waits.count:
        found.append(Advice("io_streams=2, if it is less", "copies run beside steps, which do not wait"))
        found.append(Advice("deferred_events=True", "steps of others do not wait for a request's pages"))
        found.append(Advice("a smaller max_chunk_tokens", "fewer blocks are evicted in one step"))
    return tuple(found) or (
        Advice("PAGEDKV_LOG_LEVEL=debug, or a profile of the spikes", "says what these steps wait for"),
    )


JUDGES: tuple[Callable[["OurLog"], Finding | None], ...] = (
    _fragmentation,
    _copies,
    _collapse,
    _preemption,
    _thrash,
    _spikes,
)
"""Each looks at one thing, and says nothing if it is as it should be."""
