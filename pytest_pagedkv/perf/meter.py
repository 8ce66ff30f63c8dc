"""Timing one function in calibrated batches, with the reference workload in between."""

from collections.abc import Iterator

from pytest_pagedkv.perf.meters import Call, Clock, calibrate, clock_of, quiet_gc
from pytest_pagedkv.perf.meters.reference import REFERENCE
from pytest_pagedkv.report.result import Timing

__all__ = ["measure"]

_BUDGET_NS = 500_000_000
_ROUNDS = 20
_MIN_ROUNDS = 3
_CALIBRATED = ("cpu",)


def measure(call: Call, *, metric: str, rounds: int | None = None, warmup: int = 1) -> Timing | None:
    """Time a function.

    Args:
        call: the function and its arguments.
        metric: which clock.
        rounds: how many batches; by default 20, fewer if they take long.
        warmup: untimed calls before the first.

    Returns:
        What was timed; None if every round had to be thrown away.
    """
    clock, reference = clock_of(metric), _Reference(metric)
    for _ in range(warmup):
        call.once()
    with quiet_gc():
        num_calls, first = _calibrated(call, clock)
        pairs = list(_rounds(call, clock, num_calls, first, rounds, reference))
    if not pairs:
        return None
    return Timing(
        metric=metric,
        num_calls=num_calls,
        samples_ns=tuple(total / num_calls for total, _ in pairs),
        reference_ns=tuple(beside for _, beside in pairs if beside is not None),
    )


class _Reference:
    """The reference workload, timed between the rounds by the same clock; nothing for other metrics."""

    def __init__(self, metric: str) -> None:
        self._clock = clock_of(metric, "reference") if metric in _CALIBRATED else None
        self._last: float | None = None
        if self._clock is not None:
            REFERENCE.once()

    def beside(self) -> float | None:
        """Time it once more; returns the mean of this and the time before, in ns."""
        if self._clock is None:
            return None
        before, self._last = self._last, self._clock.batch(REFERENCE, 1)
        times = [time for time in (before, self._last) if time]
        return sum(times) / len(times) if times else None


def _calibrated(call: Call, clock: Clock) -> tuple[int, float | None]:
    """Calls in a batch, and how long the last batch of the calibration took, which has as many."""
    took: list[float | None] = []

    def batch(number: int) -> float | None:
        took.append(clock.batch(call, number))
        return took[-1]

    return calibrate(batch, call.max_calls), took[-1]


def _rounds(
    call: Call, clock: Clock, num_calls: int, first: float | None, rounds: int | None, reference: _Reference
) -> Iterator[tuple[float, float | None]]:
    """The total of each round, and the reference beside it; the first round has been made."""
    spent = 0.0
    for done in range(rounds or _ROUNDS):
        if rounds is None and done >= _MIN_ROUNDS and spent > _BUDGET_NS:
            return
        total = first if done == 0 else clock.batch(call, num_calls)
        beside = reference.beside()
        if total is not None:
            spent += total
            yield total, beside
