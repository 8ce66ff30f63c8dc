"""A time limit for single calls, on the clock, that names the call which hangs."""

import gc
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pytest_pagedkv.conformance.violation import Hung

__all__ = ["Hang", "Watch"]

_TICK_S = 0.25


class Hang(BaseException):
    """Raised inside a call that takes too long; not an `Exception`, lest the engine swallow it."""


class Watch:
    """Interrupts a call that takes longer than the limit.

    It works where signals can: in the main thread, on Unix, with no other alarm set. Elsewhere calls run
    without a limit. Code that blocks inside a C extension is interrupted when it comes back.

    Args:
        limit_s: seconds that a call may take.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.started = 0.0
        self._is_collecting = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look, from time to time, whether a call has been running for too long."""
        if not self._is_possible():
            yield
            return
        before = signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, _TICK_S, _TICK_S)
        gc.callbacks.append(self._note_collection)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            gc.callbacks.remove(self._note_collection)
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Limit what is done here, beside the calls of a program.

        Raises:
            Hung: it takes too long.
        """
        self.started = time.monotonic()
        try:
            yield
        except Hang:
            raise Hung("well-formed", f"{what} did not return within {self.limit_s:g} s") from None
        finally:
            self.started = 0.0

    @staticmethod
    def _is_possible() -> bool:
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return False
        return signal.getsignal(signal.SIGALRM) is signal.SIG_DFL

    def _note_collection(self, phase: str, _told: dict[str, int]) -> None:
        self._is_collecting = phase == "start"

    def _tick(self, _signum: int, _frame: FrameType | None) -> None:
        if self._is_collecting:  # what a callback of the collector raises is lost; the next tick comes soon
            return
        if self.started and time.monotonic() - self.started > self.limit_s:
            self.started = 0.0
            raise Hang
