"""The five pitfalls of paged attention: found in numbers, explained, with what to change."""

from pagedkv.pitfalls.batch_collapse import BatchCollapseThresholds
from pagedkv.pitfalls.cow_explosion import CowExplosionThresholds
from pagedkv.pitfalls.detect import DETECTORS, detect
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source
from pagedkv.pitfalls.fragmentation import FragmentationThresholds
from pagedkv.pitfalls.thresholds import Thresholds
from pagedkv.pitfalls.timeline import Stretch, timeline

__all__ = [
    "DETECTORS",
    "Advice",
    "BatchCollapseThresholds",
    "CowExplosionThresholds",
    "Finding",
    "FragmentationThresholds",
    "Pitfall",
    "Severity",
    "Source",
    "Stretch",
    "Thresholds",
    "detect",
    "timeline",
]
