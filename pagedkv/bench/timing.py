"""Clocks, and contestants that take turns."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import torch

from pagedkv.bench.memory import cache_bytes
from pagedkv.bench.results import Timing

__all__ = ["Check", "Contestant", "CpuTimer", "CudaTimer", "Outcome", "Timer", "race", "timer_for"]

T = TypeVar("T")

_CACHE_FACTOR = 2
_LEAST_ROUNDS = 3
_MOST_ROUNDS = 200
_HEAD_START_CYCLES = 1_000_000
"""Clock cycles for which the GPU is kept busy, about 0.6 ms, while the host gets ahead of it with a call."""


class Timer(Protocol):
    """A clock that starts a call with cold caches."""

    def __call__(self, work: Callable[[], T]) -> tuple[float, T]:
        """Run something once, and wait for it.

        Returns:
            The seconds it took, and what it returned.
        """


class CpuTimer:
    """Wall time, since a call uses several threads; the garbage collector is off meanwhile.

    Args:
        evicted_bytes: size of the buffer that is written before each call; None for twice the last cache.
    """

    def __init__(self, evicted_bytes: int | None = None) -> None:
        size = _CACHE_FACTOR * cache_bytes(torch.device("cpu")) if evicted_bytes is None else evicted_bytes
        self._buffer = torch.empty(size, dtype=torch.uint8)

    def __call__(self, work: Callable[[], T]) -> tuple[float, T]:
        """Run something once."""
        self._buffer.fill_(1)
        with _no_collector():
            start = time.perf_counter()
            result = work()
            return time.perf_counter() - start, result


class CudaTimer:
    """Time between two events in the queue of the GPU, which is not idle when the first one is reached.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        size = _CACHE_FACTOR * cache_bytes(device)
        cuda: Any = torch.cuda
        self._device = device
        self._event = partial(cuda.Event, enable_timing=True)
        self._spin = cuda._sleep  # noqa: SLF001 - the only spin that torch has
        self._buffer = torch.empty(size, dtype=torch.uint8, device=device)

    def __call__(self, work: Callable[[], T]) -> tuple[float, T]:
        """Run something once: while the GPU clears its cache and spins, the host queues the launches."""
        start, end = self._event(), self._event()
        self._buffer.fill_(1)
        self._spin(_HEAD_START_CYCLES)
        with _no_collector():
            start.record()
            result = work()
            end.record()
        torch.cuda.synchronize(self._device)
        return float(start.elapsed_time(end)) / 1e3, result


def timer_for(device: torch.device) -> Timer:
    """The clock of a device."""
    return CudaTimer(device) if device.type == "cuda" else CpuTimer()


@contextmanager
def _no_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


Outputs = Sequence[torch.Tensor]
"""What a contestant made, in the form of the check."""


class Check(Protocol):
    """What results have to be."""

    @property
    def limit(self) -> float:
        """The largest error of a right result."""

    def error(self, outputs: Outputs) -> float:
        """The relative error of a result; infinite or NaN if it is not even finite."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that is timed.

    Attributes:
        name: of the contestant.
        run: the call that is timed.
        outputs: from what it returned to what is checked; not timed.
        poison: overwrites what it is to write with NaN; not timed.
    """

    name: str
    run: Callable[[], torch.Tensor | None]
    outputs: Callable[[torch.Tensor | None], Outputs]
    poison: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a race ended.

    Attributes:
        timings: of those that finished, every result right.
        wrong: of those whose result was wrong, how.
        failed: of those that raised something, that.
    """

    timings: Mapping[str, Timing]
    wrong: Mapping[str, str]
    failed: Mapping[str, Exception]


@dataclass(slots=True)
class _Track:
    """A contestant in a race."""

    contestant: Contestant
    rounds_s: list[float] = field(default_factory=list)
    error: float = 0.0
    wrong: str = ""
    failed: Exception | None = None

    @property
    def is_out(self) -> bool:
        return bool(self.wrong) or self.failed is not None

    def run(self, timer: Timer, check: Check, *, counts: bool) -> None:
        """One call, and the check of its result."""
        contestant = self.contestant
        try:
            contestant.poison()
            elapsed, returned = timer(contestant.run)
            error = check.error(contestant.outputs(returned))
        except Exception as problem:  # noqa: BLE001 - a contestant is foreign code: the others have to go on
            self.failed = problem
            return
        if not error <= check.limit:  # NaN is no right result either
            self.wrong = f"wrong result: relative error {error:.2g}, at most {check.limit:.2g} is right"
        self.error = max(self.error, error)
        if counts:
            self.rounds_s.append(elapsed)


def race(contestants: Sequence[Contestant], check: Check, timer: Timer, seconds: float) -> Outcome:
    """Time contestants, one call of each in a round; who begins changes from round to round.

    A round before the others warms up. Every result is checked, that of the warm-up too, and whoever is
    wrong once, or raises, is out.

    Args:
        contestants: with different names.
        check: of their results.
        timer: the clock.
        seconds: how long to go on, checks and all; at least some rounds are run, at most 200.
    """
    tracks = [_Track(each) for each in contestants]
    deadline = time.perf_counter() + seconds
    for number in range(_MOST_ROUNDS + 1):
        turn = number % len(tracks) if tracks else 0
        for track in tracks[turn:] + tracks[:turn]:
            if not track.is_out:
                track.run(timer, check, counts=number > 0)
        if number >= _LEAST_ROUNDS and time.perf_counter() > deadline:
            break
    return Outcome(
        timings={t.contestant.name: Timing(tuple(t.rounds_s), t.error) for t in tracks if not t.is_out},
        wrong={t.contestant.name: t.wrong for t in tracks if t.wrong},
        failed={t.contestant.name: t.failed for t in tracks if t.failed is not None},
    )
