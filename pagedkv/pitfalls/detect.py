"""All detectors on one window."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pagedkv.pitfalls.batch_collapse import detect_batch_collapse
from pagedkv.pitfalls.cow_explosion import detect_cow_explosion
from pagedkv.pitfalls.finding import Finding, Pitfall
from pagedkv.pitfalls.fragmentation import detect_fragmentation
from pagedkv.pitfalls.latency_spike import detect_latency_spike
from pagedkv.pitfalls.offload_thrash import detect_offload_thrash
from pagedkv.pitfalls.thresholds import Thresholds
from pagedkv.stats import StatsWindow

__all__ = ["DETECTORS", "detect"]

Detector = Callable[[StatsWindow, Thresholds], Finding | None]

DETECTORS: Mapping[Pitfall, Detector] = MappingProxyType(
    {
        Pitfall.FRAGMENTATION: lambda window, limits: detect_fragmentation(window, limits.fragmentation),
        Pitfall.COW_EXPLOSION: lambda window, limits: detect_cow_explosion(window, limits.cow_explosion),
        Pitfall.BATCH_COLLAPSE: lambda window, limits: detect_batch_collapse(window, limits.batch_collapse),
        Pitfall.OFFLOAD_THRASH: lambda window, limits: detect_offload_thrash(window, limits.offload_thrash),
        Pitfall.LATENCY_SPIKE: lambda window, limits: detect_latency_spike(window, limits.latency_spike),
    }
)
"""Pure functions: equal windows and thresholds give equal findings."""


def detect(window: StatsWindow, thresholds: Thresholds | None = None) -> list[Finding]:
    """What is wrong in a window, the worst first; nothing, if it is healthy or empty."""
    if not len(window):
        return []
    limits = Thresholds() if thresholds is None else thresholds
    found = (detector(window, limits) for detector in DETECTORS.values())
    return sorted((each for each in found if each is not None), key=lambda each: -each.severity)
