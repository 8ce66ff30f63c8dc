"""Above which numbers a detector speaks."""

from dataclasses import dataclass

__all__ = ["Thresholds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Thresholds of all detectors, relative where a constant would depend on the machine."""
