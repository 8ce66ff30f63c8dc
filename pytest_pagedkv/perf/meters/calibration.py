"""How many calls make a batch that a clock can resolve."""

from collections.abc import Callable
from math import ceil

__all__ = ["calibrate"]

_BATCH_NS = 2_000_000


def calibrate(batch: Callable[[int], float | None], max_calls: int) -> int:
    """The number of calls that take about two milliseconds; the last batch that was made has as many.

    Args:
        batch: makes a number of calls and says how long they took together in ns; None if it cannot say.
        max_calls: no batch is larger.
    """
    num_calls = 1
    while (took := batch(num_calls) or 0) < _BATCH_NS / 2 and num_calls < max_calls:
        wanted = ceil(num_calls * _BATCH_NS / max(took, 1))
        num_calls = min(max_calls, num_calls * 10, max(num_calls + 1, wanted))
    return num_calls
