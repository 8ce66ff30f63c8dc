"""The five pitfalls of paged attention: found in numbers, explained, with what to change."""

from pagedkv.pitfalls.detect import DETECTORS, detect
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity, Source
from pagedkv.pitfalls.thresholds import Thresholds

__all__ = ["DETECTORS", "Advice", "Finding", "Pitfall", "Severity", "Source", "Thresholds", "detect"]
