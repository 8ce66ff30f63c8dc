"""Stats fold events into numbers: totals, and what each step was like."""

from pagedkv.stats.counters import Counters
from pagedkv.stats.step_log import COLUMNS, StepLog
from pagedkv.stats.window import StatsWindow

__all__ = ["COLUMNS", "Counters", "StatsWindow", "StepLog"]
