"""How many calls Python makes: exact, and the same on every machine with the same minor version of Python."""

import sys
from threading import get_ident
from typing import Any

from pytest_pagedkv.baselines.versioned import versioned
from pytest_pagedkv.perf.meters.call import Call
from pytest_pagedkv.perf.meters.quiet import quiet_gc

__all__ = ["PYTHON_CALLS", "python_calls"]

PYTHON_CALLS = versioned("python_calls")
"""The counter's name, such as "python_calls_py311": another version counts otherwise."""


def python_calls(call: Call) -> int:
    """Calls of functions, written in Python or in C, that one call makes in this thread, itself included.

    They show the direction of a change, not its size: 10% more were measured as 15 to 18% more CPU time.

    Raises:
        RuntimeError: a profiler or a debugger has taken the place that the count needs.
    """
    arguments = call.arguments(1)[0]
    count = _Monitored() if sys.version_info >= (3, 12) else _Profiled()
    with quiet_gc():
        count.start()
        try:
            count.is_on = True  # no call comes between this, the function, and the end
            call.fn(*arguments)
        finally:
            count.is_on = False
            count.stop()
    return count.total


class _Profiled:
    """Counts through the profiler's hook, up to Python 3.11."""

    def __init__(self) -> None:
        self.is_on = False
        self.total = 0

    def start(self) -> None:
        """Begin to hear of calls."""
        if sys.getprofile() is not None:
            raise RuntimeError("python_calls cannot be counted while a profiler runs")
        sys.setprofile(self._on_event)

    def stop(self) -> None:
        """Hear no more."""
        sys.setprofile(None)

    def _on_event(self, _frame: object, event: str, _argument: object) -> None:
        if self.is_on and event in ("call", "c_call"):
            self.total += 1


class _Monitored:
    """Counts through `sys.monitoring`, from Python 3.12 on."""

    def __init__(self) -> None:
        self.is_on = False
        self.total = 0
        self._thread = get_ident()
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore] # from 3.12 on
        self._tool = self._monitoring.PROFILER_ID

    def start(self) -> None:
        """Begin to hear of calls; those of C functions are told when they return, if CALL is on."""
        monitoring, events, tool = self._monitoring, self._monitoring.events, self._tool
        if monitoring.get_tool(tool) is not None:
            raise RuntimeError("python_calls cannot be counted while a profiler runs")
        monitoring.use_tool_id(tool, "pagedkv")
        for event in (events.PY_START, events.PY_RESUME, events.C_RETURN, events.C_RAISE):
            monitoring.register_callback(tool, event, self._on_call)
        monitoring.set_events(tool, events.PY_START | events.PY_RESUME | events.CALL)

    def stop(self) -> None:
        """Hear no more."""
        self._monitoring.set_events(self._tool, 0)
        self._monitoring.free_tool_id(self._tool)

    def _on_call(self, *_arguments: object) -> None:
        if self.is_on and get_ident() == self._thread:
            self.total += 1
