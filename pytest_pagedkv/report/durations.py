"""Times in words."""

__all__ = ["duration"]

_UNITS = (("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0))


def duration(nanoseconds: float) -> str:
    """Three digits and a unit."""
    unit, size = next((unit for unit in _UNITS if nanoseconds >= unit[1]), _UNITS[-1])
    return f"{nanoseconds / size:.3g}{unit}"
