"""Where another thread looks at what one thread changes, between two of its changes."""

import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from threading import Event, RLock
from typing import TypeVar

from pagedkv.errors import PagedKVError

__all__ = ["Gate"]

_Copy = TypeVar("_Copy")
_TURN_S = 0.002


class Gate:
    """Lets other threads make copies of what one thread changes.

    The thread that changes things holds `lock` around each change, and calls `let_look` between two of them
    if `is_asked`: it then makes the copies itself, so that nobody needs luck to get hold of the lock. While
    it does something else, those who look take the lock.

    Attributes:
        lock: held around every change.
        is_asked: whether somebody waits for a look.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.is_asked = False
        self._looks: deque[_Look] = deque()

    def survive_forks(self) -> None:
        """Be free in forked children, whoever looked at the time. Needed where other threads look."""
        gate = weakref.ref(self)

        def renew() -> None:
            if (found := gate()) is not None:
                found._renew()  # noqa: SLF001 - its own

        os.register_at_fork(after_in_child=renew)

    def let_look(self) -> None:
        """Make the copies that others wait for. Only for the thread that changes things."""
        with self.lock:
            self._serve()

    def look(self, copy: Callable[[], _Copy], timeout_s: float) -> _Copy:
        """What `copy` returns, called while nothing changes; by any thread, on any thread.

        Args:
            copy: has to be quick: a step may wait for it.
            timeout_s: how long to wait for the turn.

        Raises:
            PagedKVError: the turn did not come.
            Exception: what `copy` raises.
        """
        found: list[_Copy] = []
        look = _Look(lambda: found.append(copy()))
        self._looks.append(look)
        self.is_asked = True
        give_up = time.monotonic() + timeout_s
        while not look.is_done.is_set():
            if self.lock.acquire(timeout=_TURN_S):
                try:
                    self._serve()
                finally:
                    self.lock.release()
            elif time.monotonic() > give_up and self._withdraw(look):
                raise PagedKVError(f"the engine has been changing its state for {timeout_s:g} s: ask again")
        if look.error is not None:
            raise look.error
        return found[0]

    def _withdraw(self, look: "_Look") -> bool:
        """Take a look back; False if somebody is making its copy now."""
        try:
            self._looks.remove(look)
        except ValueError:
            return False
        return True

    def _serve(self) -> None:
        self.is_asked = False  # before the queue is read: who joins it now sets this again
        while self._looks:
            self._looks.popleft().make()

    def _renew(self) -> None:
        """In a forked child: whoever held the lock or waited is not there."""
        self.lock, self.is_asked = RLock(), False
        self._looks.clear()


class _Look:
    """One copy that somebody waits for."""

    def __init__(self, copy: Callable[[], object]) -> None:
        self._copy = copy
        self.is_done = Event()
        self.error: Exception | None = None

    def make(self) -> None:
        """Make it; what goes wrong is for whoever asked."""
        try:
            self._copy()
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            self.error = error
        self.is_done.set()
