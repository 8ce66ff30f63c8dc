"""Above which numbers something is a finding. docs/doctor.md says why."""

from dataclasses import dataclass, fields

from pagedkv.checks import require_number
from pagedkv.pitfalls import Thresholds

__all__ = ["LogThresholds", "StateThresholds", "TimelineThresholds"]

_MANY = 1e12
_DETECTORS = Thresholds()


def _check(thresholds: object) -> None:
    for field in fields(thresholds):  # type: ignore[arg-type] # each of them is a dataclass
        require_number(field.name, getattr(thresholds, field.name), 0, _MANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogThresholds:
    """Limits for lines of logs.

    Args:
        fragmentation_ratio: share of the slots in use that hold nothing.
        short_pool_ratio: share of free blocks below which wasted slots cost something.
        fragmentation_readings: readings above both.
        slots_per_token: slots copied for each token that is written, as in the detector.
        critical_slots_per_token: likewise, for a critical finding.
        copies: blocks copied, without which nothing is said of copies.
        copies_per_token: blocks copied for each generated token, where the log does not give their size.
        copies_per_step: copies of a step, on average over the steps that copy, where the log does not say how
            many tokens were generated either.
        copy_steps: steps that copy, likewise.
        preemptions: requests that lost their blocks.
        preemption_ratio: those of the requests that ended, or that ran.
        critical_preemption_ratio: likewise, for a critical finding.
        collapsed_lines: lines of a server in a row after which a reduced batch counts as collapsed.
        collapsed_ratio: share of the busy lines with a collapsed batch, for a critical finding.
        collapses: times that our scheduler says so, for a critical finding.
        collapsed_time_ratio: share of the time in steps in collapsed batches, as in the detector.
        critical_collapsed_time_ratio: likewise, for a critical finding.
        full_ratio: usage of the pool that counts as full.
        stalls: page-ins that stalled.
        stall_ratio: those of all page-ins.
        throttled: times that copies were held back, where the log does not say how long requests waited.
        wait_ratio: what requests may wait for pages, as a share of all time, as in the detector.
        long_wait_ratio: wait that tells by itself, without a stall.
        critical_wait_ratio: wait of a critical finding.
        spike_ratio: share of the decodes that may take twice as long as like ones, as in the detector.
        decodes: such steps, without which a share says nothing, as in the detector.
        slow_steps: steps that took far longer than the median, where the log has too few decodes.
        slow_step_ratio: times the median, for a critical finding.
        sync_ratio: share of the time in steps that may pass in waiting for copies, as in the detector.
        compile_ratio: times a usual step that a compilation inside a step may take, as in the detector.
        compile_ms: what it may take where the log does not say how long steps are.
        compilations: kernels compiled while requests ran.
        swapped_ratio: share of the busy lines with requests swapped out.
        eager_ratio: share of the decode lines without a CUDA graph, where others have one.
        least_lines: lines without which a share says nothing.
    """

    fragmentation_ratio: float = 0.4
    short_pool_ratio: float = 0.1
    fragmentation_readings: int = 10
    slots_per_token: float = _DETECTORS.cow_explosion.amplification
    critical_slots_per_token: float = _DETECTORS.cow_explosion.critical_amplification
    copies: int = _DETECTORS.cow_explosion.min_copies
    copies_per_token: float = 0.25
    copies_per_step: float = 8.0
    copy_steps: int = 32
    preemptions: int = 10
    preemption_ratio: float = 0.1
    critical_preemption_ratio: float = 0.5
    collapsed_lines: int = 3
    collapsed_ratio: float = 0.25
    collapses: int = 5
    collapsed_time_ratio: float = _DETECTORS.batch_collapse.time_ratio
    critical_collapsed_time_ratio: float = _DETECTORS.batch_collapse.critical_ratio
    full_ratio: float = 0.95
    stalls: int = 5
    stall_ratio: float = 0.05
    throttled: int = 5
    wait_ratio: float = _DETECTORS.offload_thrash.wait_ratio
    long_wait_ratio: float = _DETECTORS.offload_thrash.again_wait_ratio
    critical_wait_ratio: float = _DETECTORS.offload_thrash.critical_ratio
    spike_ratio: float = 0.01
    decodes: int = _DETECTORS.latency_spike.least_steps
    slow_steps: int = 3
    slow_step_ratio: float = 10.0
    sync_ratio: float = _DETECTORS.latency_spike.sync_ratio
    compile_ratio: float = _DETECTORS.latency_spike.compile_ratio
    compile_ms: float = 100.0
    compilations: int = 3
    swapped_ratio: float = 0.2
    eager_ratio: float = 0.2
    least_lines: int = 20

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateThresholds:
    """Limits for snapshots without findings; whoever has some was judged by detectors.

    Args:
        fragmentation_ratio: share of the slots in use that hold nothing.
        excess_ratio: what of it is beyond the half block that paging costs each sequence.
        short_pool_ratio: share of free blocks below which wasted slots cost something.
        preemption_ratio: preempted requests of all.
        critical_preemption_ratio: likewise, for a critical finding.
        preempted_requests: preempted requests, at least.
    """

    fragmentation_ratio: float = 0.4
    excess_ratio: float = 0.2
    short_pool_ratio: float = 0.1
    preemption_ratio: float = 0.1
    critical_preemption_ratio: float = 0.5
    preempted_requests: int = 4

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineThresholds:
    """Limits for timelines of a profiler.

    Args:
        steps: steps without which nothing is said about steps.
        syncs_per_step: calls of a step that block, on average; one is needed to read the tokens.
        sync_ratio: share of the steps' time in such calls.
        critical_sync_ratio: likewise, for a critical finding.
        compile_ratio: share of the steps' time in compiling and loading kernels.
        copy_ratio: share of the device's busy time in copies between host and device.
        overlap_ratio: share of those copies beside which a kernel ran, below which they were in the way.
        pageable_ratio: share of the bytes between host and device that came from or went to pageable memory.
        pageable_bytes: such bytes, at least.
    """

    steps: int = 3
    syncs_per_step: float = 2.0
    sync_ratio: float = 0.1
    critical_sync_ratio: float = 0.4
    compile_ratio: float = 0.05
    copy_ratio: float = 0.1
    overlap_ratio: float = 0.5
    pageable_ratio: float = 0.1
    pageable_bytes: int = 1 << 24

    def __post_init__(self) -> None:
        _check(self)
