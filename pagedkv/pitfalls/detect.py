"""All detectors on one window."""

from collections.abc import Callable

from pagedkv.pitfalls.finding import Finding
from pagedkv.pitfalls.thresholds import Thresholds
from pagedkv.stats import StatsWindow

__all__ = ["DETECTORS", "detect"]

Detector = Callable[[StatsWindow, Thresholds], Finding | None]

DETECTORS: tuple[Detector, ...] = ()
"""Pure functions: equal windows and thresholds give equal findings."""


def detect(window: StatsWindow, thresholds: Thresholds | None = None) -> list[Finding]:
    """What is wrong in a window, the worst first; nothing, if it is healthy."""
    limits = Thresholds() if thresholds is None else thresholds
    found = (detector(window, limits) for detector in DETECTORS)
    return sorted((each for each in found if each is not None), key=lambda each: -each.severity)
