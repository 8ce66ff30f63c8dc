"""Time as a parameter: the wall clock serves, a virtual clock replays."""

import time
from typing import Protocol

from pagedkv.errors import ConfigError

__all__ = ["Clock", "VirtualClock", "WallClock"]

_NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """What tells the time, in nanoseconds from an arbitrary start, never backwards."""

    def now_ns(self) -> int:
        """The time now."""

    def sleep_until(self, time_ns: int) -> None:
        """Come back at this time, or at once if it has passed."""


class WallClock:
    """The monotonic clock of this machine."""

    def now_ns(self) -> int:
        """The time now."""
        return time.monotonic_ns()

    def sleep_until(self, time_ns: int) -> None:
        """Sleep, if the time has not passed."""
        if (rest := time_ns - time.monotonic_ns()) > 0:
            time.sleep(rest / _NS_PER_S)


class VirtualClock:
    """A clock that moves when it is told to, so that everything on it repeats to the nanosecond.

    Args:
        start_ns: the time at first.
    """

    __slots__ = ("_now_ns",)

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The time now."""
        return self._now_ns

    def advance(self, duration_ns: int) -> None:
        """Let time pass.

        Raises:
            ConfigError: the duration is negative.
        """
        if duration_ns < 0:
            raise ConfigError(f"a clock cannot be put back by {-duration_ns} ns")
        self._now_ns += duration_ns

    def sleep_until(self, time_ns: int) -> None:
        """Move to this time, unless it has passed."""
        self._now_ns = max(self._now_ns, time_ns)
