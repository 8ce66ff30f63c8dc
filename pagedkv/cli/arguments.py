"""Types of arguments that several commands take."""

import argparse

__all__ = ["block_count", "natural", "positive"]

_HIGHEST = 2**31 - 1


def positive(text: str) -> int:
    """An integer from 1 to 2147483647."""
    return _integer(text, 1)


def natural(text: str) -> int:
    """An integer from 0 to 2147483647."""
    return _integer(text, 0)


def block_count(text: str) -> int | None:
    """As `positive`, or None for "inf"."""
    return None if text == "inf" else positive(text)


def _integer(text: str, low: int) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 10 and low <= int(text) <= _HIGHEST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not an integer from {low} to {_HIGHEST}")
