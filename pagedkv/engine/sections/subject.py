"""What sections are made of."""

import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from pagedkv.block_manager import CacheCopy
from pagedkv.engine.history import History
from pagedkv.scheduler import Scheduler

__all__ = ["Section", "Subject", "breathe", "plain"]

_PAUSE_S = 5e-5

Section = Callable[["Subject"], Callable[[], Any]]
"""Copies, and returns what shows the copy."""


class Subject:
    """The engine while it is copied.

    Attributes:
        scheduler: its scheduler.
        history: its last steps.
        now_ns: on its clock.
    """

    def __init__(self, scheduler: Scheduler, history: History) -> None:
        self.scheduler = scheduler
        self.history = history
        self.now_ns = scheduler.clock.now_ns()

    @cached_property
    def cache(self) -> CacheCopy:
        """A copy of the cache; first asked for while nothing changes."""
        return self.scheduler.cache.copied()


def breathe() -> None:
    """Leave the interpreter to other threads: a step may wait for it."""
    time.sleep(_PAUSE_S)


def plain(value: Any) -> Any:
    """The same, as JSON has it: no numbers that are none, no mappings of other kinds."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return value
