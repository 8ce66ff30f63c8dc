"""Timing one function in calibrated batches."""

from collections.abc import Iterator

from pytest_pagedkv.perf.meters import Call, Clock, calibrate, clock_of, quiet_gc
from pytest_pagedkv.report.result import Timing

__all__ = ["Call", "measure", "quiet_gc"]

_BUDGET_NS = 500_000_000
_ROUNDS = 20
_MIN_ROUNDS = 3


def measure(call: Call, *, metric: str, rounds: int | None = None, warmup: int = 1) -> Timing:
    """Time a function.

    Args:
        call: the function and its arguments.
        metric: which clock.
        rounds: how many batches; by default 20, fewer if they take long.
        warmup: untimed calls before the first.
    """
    clock = clock_of(metric)
    for _ in range(warmup):
        call.once()
    tried: list[float | None] = []

    def batch(number: int) -> float | None:
        tried.append(clock.batch(call, number))
        return tried[-1]

    with quiet_gc():
        num_calls = calibrate(batch, call.max_calls)
        totals = list(_totals(call, clock, num_calls, tried[-1], rounds))
    return Timing(metric=metric, num_calls=num_calls, samples_ns=tuple(total / num_calls for total in totals))


def _totals(
    call: Call, clock: Clock, num_calls: int, first: float | None, rounds: int | None
) -> Iterator[float]:
    """One total a round; the last batch of the calibration is the first round."""
    spent = 0.0
    for done in range(rounds or _ROUNDS):
        if rounds is None and done >= _MIN_ROUNDS and spent > _BUDGET_NS:
            return
        total = first if done == 0 else clock.batch(call, num_calls)
        if total is not None:
            spent += total
            yield total
