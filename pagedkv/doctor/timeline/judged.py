"""What a timeline amounts to."""

from pagedkv.doctor.thresholds import TimelineThresholds
from pagedkv.doctor.timeline.calls import sources_of
from pagedkv.doctor.timeline.timeline import Timeline
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source

__all__ = ["findings_of", "notes_of"]


def findings_of(timeline: Timeline, limits: TimelineThresholds) -> list[Finding]:
    """What is not as it should be."""
    found = (
        _syncs(timeline, limits),
        _compiling(timeline, limits),
        _overlap(timeline, limits),
        _pageable(timeline, limits),
    )
    return [each for each in found if each is not None]


def notes_of(timeline: Timeline) -> tuple[str, ...]:
    """What could not be looked at."""
    notes = []
    if not timeline.num_kernels and not timeline.num_copies:
        notes.append(
            "no rows of a GPU: nothing is said about copies; profile with "
            "ProfilerActivity.CUDA, or nsys -t cuda"
        )
    if not timeline.steps:
        notes.append(
            "no ranges of steps (execute, execute_model, ProfilerStep#): nothing is said about steps"
        )
    if num := timeline.syncs.num_left_out + timeline.compiling.num_left_out:
        notes.append(f"{num:,} calls of threads with more than a million were left out")
    return tuple(notes)


def _syncs(timeline: Timeline, limits: TimelineThresholds) -> Finding | None:
    num_steps, step_time = timeline.steps_seen(), timeline.step_time()
    if num_steps < limits.steps or not step_time:
        return None
    calls = timeline.syncs.inside(timeline.steps)
    share, each = timeline.syncs.time_inside(timeline.steps) / step_time, len(calls) / num_steps
    if each < limits.syncs_per_step or share < limits.sync_ratio:
        return None
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.CRITICAL if share >= limits.critical_sync_ratio else Severity.WARNING,
        summary=f"a step waits for the device {each:.1f} times, {share:.0%} of its time",
        evidence={
            "steps": num_steps,
            "blocking_calls_per_step": each,
            "blocking_calls_limit": limits.syncs_per_step,
            "blocking_ratio": share,
            "blocking_ratio_limit": limits.sync_ratio,
        },
        advice=(
            Advice(
                "one copy of the sampled tokens at the end of a step; no .item(), .cpu() or print inside it",
                "the host prepares the next step meanwhile",
            ),
            Advice(
                "events instead of cudaStreamSynchronize, waited for at the next step", "the step goes on"
            ),
            Advice("non_blocking=True, from and to pinned memory", "a copy returns at once"),
        ),
        sources=sources_of(timeline.file, calls),
    )


def _compiling(timeline: Timeline, limits: TimelineThresholds) -> Finding | None:
    step_time = timeline.step_time()
    if not step_time:
        return None
    calls = timeline.compiling.inside(timeline.steps)
    share = timeline.compiling.time_inside(timeline.steps) / step_time
    if not calls or share < limits.compile_ratio:
        return None
    longest = max(lasting for _, lasting, _ in calls)
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.CRITICAL if share >= 4 * limits.compile_ratio else Severity.WARNING,
        summary=f"{share:.0%} of the steps' time went into compiling, {longest / 1e3:,.1f} ms at once",
        evidence={
            "calls": len(calls),
            "compile_ratio": share,
            "compile_ratio_limit": limits.compile_ratio,
            "longest_ms": longest / 1e3,
        },
        advice=(
            Advice(
                "warm up with the usual shapes before the first request", "nothing is compiled inside a step"
            ),
            Advice("keep the caches of Triton and Inductor between starts", "a kernel is compiled once"),
        ),
        sources=sources_of(timeline.file, calls),
    )


def _overlap(timeline: Timeline, limits: TimelineThresholds) -> Finding | None:
    copying, beside = timeline.copy_time()
    computing = timeline.kernel_time()
    if not copying or not computing:
        return None
    busy = computing + copying - beside
    if copying / busy < limits.copy_ratio or beside / copying >= limits.overlap_ratio:
        return None
    return Finding(
        pitfall=Pitfall.LATENCY_SPIKE,
        severity=Severity.CRITICAL if copying / busy >= 3 * limits.copy_ratio else Severity.WARNING,
        summary=f"copies take {copying / busy:.0%} of the device's busy time, and a kernel runs beside "
        f"{beside / copying:.0%} of that",
        evidence={
            "copy_ms": copying / 1e3,
            "kernel_ms": computing / 1e3,
            "copy_ratio": copying / busy,
            "copy_ratio_limit": limits.copy_ratio,
            "overlap_ratio": beside / copying,
            "overlap_ratio_limit": limits.overlap_ratio,
        },
        advice=(
            Advice("io_streams=2 or more; copies on streams of their own", "kernels run beside them"),
            Advice("pinned memory", "only such copies run beside kernels"),
            Advice("a larger prefetch_blocks", "pages come before the turn of their request"),
        ),
        sources=(
            Source(timeline.file, 0, f"{timeline.num_copies:,} copies, {timeline.num_kernels:,} kernels"),
        ),
    )


def _pageable(timeline: Timeline, limits: TimelineThresholds) -> Finding | None:
    pageable = timeline.pageable
    share = pageable.total / timeline.copy_bytes if timeline.copy_bytes else 0.0
    if pageable.total < limits.pageable_bytes or share < limits.pageable_ratio:
        return None
    return Finding(
        pitfall=Pitfall.OFFLOAD_THRASH,
        severity=Severity.WARNING,
        summary=f"{share:.0%} of the bytes between host and device, {pageable.total / 2**20:,.0f} MiB, "
        "went through pageable memory",
        evidence={
            "pageable_copies": pageable.count,
            "pageable_bytes": pageable.total,
            "pageable_bytes_limit": limits.pageable_bytes,
            "pageable_ratio": share,
            "pageable_ratio_limit": limits.pageable_ratio,
        },
        advice=(
            Advice(
                "pin_memory=True, or a pinned pool (pinned_bytes)",
                "no copy on the host, and no waiting for it",
            ),
        ),
        sources=pageable.sources,
    )
