"""What is asked of a setting, whatever it is a setting of."""

import math
from typing import cast

from pagedkv.errors import ConfigError

__all__ = ["require_bool", "require_int", "require_number"]

_MAX_INT = 2**31 - 1


def require_bool(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        ConfigError: it is not a bool.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True or False")


def require_int(name: str, value: object, low: int, high: int = _MAX_INT) -> None:
    """Refuse what is not an int in this range; a bool is not one.

    Raises:
        ConfigError: it is not an int, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name} is {value!r}; it must be an int from {low} to {high}")


def require_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is not a finite number in this range; a bool is not one.

    Raises:
        ConfigError: it is not a number, not finite, or out of range.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(cast("float", value)) or not low <= cast("float", value) <= high:
        raise ConfigError(f"{name} is {value!r}; it must be a finite number from {low} to {high}")
