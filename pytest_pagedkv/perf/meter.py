"""Timing one function in calibrated batches."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from pagedkv.tracing import nvtx_range
from pytest_pagedkv.report.result import Timing

__all__ = ["Call", "measure", "quiet_gc"]

_CLOCKS = {"cpu": time.thread_time_ns, "wall": time.perf_counter_ns}
_BATCH_NS = 2_000_000
_BUDGET_NS = 500_000_000
_ROUNDS = 20
_MIN_ROUNDS = 3
_MAX_CALLS = 1_000_000
_MAX_PREPARED_CALLS = 256  # each may hold a whole cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is timed.

    Attributes:
        fn: the function.
        prepare: makes the arguments of one call, outside the time; None if there are none.
    """

    fn: Callable[..., object]
    prepare: Callable[[], tuple[Any, ...]] | None = None

    def arguments(self, num_calls: int) -> list[tuple[Any, ...]]:
        """Fresh arguments for a batch."""
        return [()] * num_calls if self.prepare is None else [self.prepare() for _ in range(num_calls)]

    @property
    def max_calls(self) -> int:
        """How many calls a batch may have."""
        return _MAX_CALLS if self.prepare is None else _MAX_PREPARED_CALLS


def measure(call: Call, *, metric: str, rounds: int | None = None, warmup: int = 1) -> Timing:
    """Time a function.

    Args:
        call: the function and its arguments.
        metric: which clock.
        rounds: how many batches; by default 20, fewer if they take long.
        warmup: untimed calls before the first.
    """
    batch = _Batch(call, _CLOCKS[metric])
    for arguments in call.arguments(warmup):
        call.fn(*arguments)
    with quiet_gc():
        num_calls, first = _calibrated(batch)
        totals = list(_totals(batch, num_calls, first, rounds))
    return Timing(metric=metric, num_calls=num_calls, samples_ns=tuple(total / num_calls for total in totals))


@contextmanager
def quiet_gc() -> Iterator[None]:
    """No garbage collection inside; afterwards the collector is as it was before."""
    was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if not was_frozen:
            gc.unfreeze()
        if was_enabled:
            gc.enable()


class _Batch:
    """Runs a number of calls and says how long they took together."""

    def __init__(self, call: Call, clock: Callable[[], int]) -> None:
        self.call = call
        self._clock = clock
        self._range = nvtx_range("round")

    def __call__(self, num_calls: int) -> int:
        fn, clock, batch = self.call.fn, self._clock, self.call.arguments(num_calls)
        with self._range:
            start = clock()
            for arguments in batch:
                fn(*arguments)
            return clock() - start


def _calibrated(batch: _Batch) -> tuple[int, int]:
    """Calls for about two milliseconds, and how long that many took: the first round."""
    num_calls, limit = 1, batch.call.max_calls
    while (took := batch(num_calls)) < _BATCH_NS / 2 and num_calls < limit:
        wanted = ceil(num_calls * _BATCH_NS / max(took, 1))
        num_calls = min(limit, num_calls * 10, max(num_calls + 1, wanted))
    return num_calls, took


def _totals(batch: _Batch, num_calls: int, first: int, rounds: int | None) -> Iterator[int]:
    yield first
    spent = first
    for done in range(1, rounds or _ROUNDS):
        if rounds is None and done >= _MIN_ROUNDS and spent > _BUDGET_NS:
            return
        total = batch(num_calls)
        spent += total
        yield total
