"""What can be measured of one call: time by some clocks, and what the interpreter or a simulator counts."""

from pytest_pagedkv.perf.meters.calibration import calibrate
from pytest_pagedkv.perf.meters.call import Call
from pytest_pagedkv.perf.meters.clocks import Clock, clock_of
from pytest_pagedkv.perf.meters.extra import extra_meters
from pytest_pagedkv.perf.meters.quiet import quiet_gc

__all__ = ["Call", "Clock", "calibrate", "clock_of", "extra_meters", "quiet_gc"]
