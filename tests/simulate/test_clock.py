"""Clocks that are told what time it is."""

import pytest

from pagedkv.clock import VirtualClock, WallClock
from pagedkv.errors import ConfigError


def test_a_virtual_clock_moves_when_it_is_told_to() -> None:
    """It advances by durations, and sleeps to times that are ahead; those that have passed change nothing."""
    clock = VirtualClock(5)

    clock.advance(10)
    assert clock.now_ns() == 15
    clock.sleep_until(12)
    assert clock.now_ns() == 15
    clock.sleep_until(10**18)
    clock.advance(0)
    assert clock.now_ns() == 10**18


def test_a_virtual_clock_is_not_put_back() -> None:
    """A negative duration is refused, and changes nothing."""
    clock = VirtualClock()

    with pytest.raises(ConfigError, match="cannot be put back by 3 ns"):
        clock.advance(-3)
    assert clock.now_ns() == 0


def test_a_wall_clock_sleeps_until_a_time() -> None:
    """It comes back when the time has come, and at once if it has passed."""
    clock = WallClock()
    then = clock.now_ns() + 2_000_000

    clock.sleep_until(then)
    assert clock.now_ns() >= then
    clock.sleep_until(then)
