"""Above which numbers a detector speaks."""

from dataclasses import dataclass, field

from pagedkv.pitfalls.batch_collapse import BatchCollapseThresholds
from pagedkv.pitfalls.cow_explosion import CowExplosionThresholds
from pagedkv.pitfalls.fragmentation import FragmentationThresholds

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds of all detectors, relative where a constant would depend on the machine.

    Args:
        fragmentation: of memory without tokens.
        cow_explosion: of copies.
        batch_collapse: of small batches while requests wait.
    """

    fragmentation: FragmentationThresholds = field(default_factory=FragmentationThresholds)
    cow_explosion: CowExplosionThresholds = field(default_factory=CowExplosionThresholds)
    batch_collapse: BatchCollapseThresholds = field(default_factory=BatchCollapseThresholds)
