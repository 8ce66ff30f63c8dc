"""Interleaved timing: every contestant runs once a round, the best round of each counts.

Thread CPU time, with the garbage collector off: what is compared is work, not luck with the machine.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Sample", "Work", "race"]


class Work:
    """Something that is timed: `num_ops` operations in one go.

    Attributes:
        num_ops: operations that one `run` does; times are reported for one of them.
    """

    num_ops: int = 1

    def prepare(self) -> None:
        """Get ready for one `run`; not timed."""

    def run(self) -> None:
        """Do the work."""
        raise NotImplementedError

    def finish(self) -> None:
        """Put away what one `run` left; not timed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU time of one operation.

    Attributes:
        rounds_us: in each round, in microseconds.
    """

    rounds_us: tuple[float, ...]

    @property
    def best_us(self) -> float:
        """Time in the best round."""
        return min(self.rounds_us)

    @property
    def median_us(self) -> float:
        """Time in the median round."""
        return statistics.median(self.rounds_us)

    def minus(self, base: "Sample") -> "Sample":
        """What is left above the best of `base`, never below 0."""
        return Sample(tuple(max(0.0, time - base.best_us) for time in self.rounds_us))

    def best_ratio(self, other: "Sample") -> float | None:
        """The best of `self` divided by the best of `other`; None where that is 0."""
        return self.best_us / other.best_us if other.best_us else None

    def paired_ratio(self, other: "Sample") -> float | None:
        """The median of what `self` divided by `other` is in each round; None where `other` was ever 0.

        A machine that is slow for a while is slow for both.
        """
        if not other.best_us:
            return None
        return statistics.median(a / b for a, b in zip(self.rounds_us, other.rounds_us, strict=True))


def race(works: Mapping[str, Work], num_rounds: int, tick: Callable[[], object]) -> dict[str, Sample]:
    """Time all works, taking turns; who begins changes from round to round.

    Args:
        works: the contestants by name.
        num_rounds: rounds that count. One before them warms up.
        tick: called after each round.
    """
    names = list(works)
    times: dict[str, list[int]] = {name: [] for name in names}
    for number in range(num_rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            elapsed = _timed(works[name])
            if number:
                times[name].append(elapsed)
        tick()
    return {name: _sample(times[name], works[name].num_ops) for name in names}


def _timed(work: Work) -> int:
    work.prepare()
    was_on = gc.isenabled()
    gc.disable()
    try:
        start = time.thread_time_ns()
        work.run()
        elapsed = time.thread_time_ns() - start
    finally:
        if was_on:
            gc.enable()
    work.finish()
    return elapsed


def _sample(times_ns: list[int], num_ops: int) -> Sample:
    return Sample(tuple(time_ns / num_ops / 1e3 for time_ns in times_ns))
