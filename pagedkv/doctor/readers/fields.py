"""Numbers out of plain values of which nothing is certain."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["number_in", "table_in"]


def number_in(values: Mapping[str, Any], name: str) -> float:
    """The number of this name; 0 where there is none."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    try:
        found = float(value)
    except OverflowError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def table_in(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of this name; an empty one where there is none."""
    value = values.get(name)
    return value if isinstance(value, dict) else {}
