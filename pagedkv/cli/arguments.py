"""Types of arguments that commands take."""

import argparse

__all__ = ["block_count", "natural", "positive", "seconds"]

_HIGHEST = 2**31 - 1
_DAY_S = 24 * 60 * 60


def positive(text: str) -> int:
    """An integer from 1 to 2147483647."""
    return _integer(text, 1)


def natural(text: str) -> int:
    """An integer from 0 to 2147483647."""
    return _integer(text, 0)


def block_count(text: str) -> int | None:
    """As `positive`, or None for "inf"."""
    return None if text == "inf" else positive(text)


def seconds(text: str) -> float:
    """A time of more than 0 seconds, and at most a day."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if 0 < value <= _DAY_S:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from more than 0 to {_DAY_S}")


def _integer(text: str, low: int) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 10 and low <= int(text) <= _HIGHEST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not an integer from {low} to {_HIGHEST}")
