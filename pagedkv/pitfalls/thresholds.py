"""Above which numbers a detector speaks."""

from dataclasses import dataclass, field

from pagedkv.pitfalls.batch_collapse import BatchCollapseThresholds
from pagedkv.pitfalls.cow_explosion import CowExplosionThresholds
from pagedkv.pitfalls.fragmentation import FragmentationThresholds
from pagedkv.pitfalls.latency_spike import LatencySpikeThresholds
from pagedkv.pitfalls.offload_thrash import OffloadThrashThresholds

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds of all detectors, relative where a constant would depend on the machine.

    Args:
        fragmentation: of memory without tokens.
        cow_explosion: of copies.
        batch_collapse: of small batches while requests wait.
        offload_thrash: of page-ins that requests wait for.
        latency_spike: of steps that take longer than like ones.
    """

    fragmentation: FragmentationThresholds = field(default_factory=FragmentationThresholds)
    cow_explosion: CowExplosionThresholds = field(default_factory=CowExplosionThresholds)
    batch_collapse: BatchCollapseThresholds = field(default_factory=BatchCollapseThresholds)
    offload_thrash: OffloadThrashThresholds = field(default_factory=OffloadThrashThresholds)
    latency_spike: LatencySpikeThresholds = field(default_factory=LatencySpikeThresholds)
