"""What the fixture `pagedkv_benchmark` gives."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pytest_pagedkv.perf.meters import Call
from pytest_pagedkv.perf.recorder import Recorder

__all__ = ["Benchmark", "Counter", "Meter"]

T = TypeVar("T")

Meter = Callable[[Call, int | None, int], None]
"""Times a call: call, rounds, warm-up calls."""

Counter = Callable[[Call], Mapping[str, int]]
"""Counts what a call does besides events."""


class Benchmark:
    """Counts one call of a function exactly, then times it.

    Args:
        recorder: where the counters go.
        meter: times the function; None where only counters are wanted.
        counter: counts besides, in a call of its own.
    """

    def __init__(self, recorder: Recorder, meter: Meter | None, counter: Counter | None = None) -> None:
        self._recorder = recorder
        self._meter = meter
        self._counter = counter
        self._is_used = False

    def __call__(
        self,
        fn: Callable[..., T],
        *,
        setup: Callable[[], object] | None = None,
        rounds: int | None = None,
        warmup: int = 1,
    ) -> T:
        """Count and time `fn`.

        Args:
            fn: what is measured. Its result in the counted call is returned.
            setup: runs before every call, outside counts and times, and makes its arguments: a tuple is
                spread, None means no argument, anything else is the only one.
            rounds: batches to time; by default up to 20.
            warmup: untimed calls before the first batch.

        Raises:
            RuntimeError: called a second time in one test.
            ValueError: fewer than one round, or fewer than zero calls before.
        """
        _check_numbers(rounds, warmup)
        if self._is_used:
            raise RuntimeError("pagedkv_benchmark was called already; write one test per benchmark")
        self._is_used = True
        prepare = None if setup is None else lambda: _as_arguments(setup())
        arguments = prepare() if prepare else ()
        with self._recorder.counting():
            result = fn(*arguments)
        self._measure(Call(fn=fn, prepare=prepare), rounds, warmup)
        return result

    def _measure(self, call: Call, rounds: int | None, warmup: int) -> None:
        """Everything but events, which cost time."""
        with self._recorder.timing():
            counters = {} if self._counter is None else self._counter(call)
            if self._meter is not None:
                self._meter(call, rounds, warmup)
        self._recorder.record(counters)

    def record(self, **counters: int) -> None:
        """Add counters of the test's own: integers that do not depend on the machine.

        Raises:
            TypeError: a value is not an integer.
            ValueError: a name is taken.
        """
        self._recorder.record(counters)


def _check_numbers(rounds: int | None, warmup: int) -> None:
    if rounds is not None and rounds < 1:
        raise ValueError(f"rounds is {rounds}; give 1 or more, or leave it away for up to 20")
    if warmup < 0:
        raise ValueError(f"warmup is {warmup}; give 0 for no untimed call, or more")


def _as_arguments(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)
