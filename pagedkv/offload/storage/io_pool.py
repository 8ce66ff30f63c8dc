"""Threads that copy, and what they have finished."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pagedkv.errors import OffloadError
from pagedkv.offload.mover import Moved

__all__ = ["Ended", "IoPool"]

Job = Callable[[], None]


class Ended:
    """Copies that have ended and were not reported yet."""

    def __init__(self) -> None:
        self._moved: deque[Moved] = deque()
        self._changed = threading.Condition()

    def add(self, moved: Moved) -> None:
        """One more; whoever waits wakes up."""
        with self._changed:
            self._moved.append(moved)
            self._changed.notify_all()

    def take(self) -> Sequence[Moved]:
        """All of them, which are reported by that."""
        if not self._moved:
            return ()
        with self._changed:
            moved = tuple(self._moved)
            self._moved.clear()
        return moved

    def wait(self, timeout_s: float) -> bool:
        """Return when there is one, or after so many seconds; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._moved), timeout_s)


class IoPool:
    """Threads that run jobs, reads before writes, and tell when each has ended.

    They are daemons: one that is stuck in a disk that does not answer keeps no process from ending.

    Args:
        num_threads: how many.
        name: what they are called.
        ended: where an operation goes when its job has ended.
        on_last_exit: called by the last thread that stops, when nobody uses what the jobs work on any more.
    """

    def __init__(self, num_threads: int, name: str, ended: Ended, on_last_exit: Job | None = None) -> None:
        self._ended, self._on_last_exit = ended, on_last_exit
        self._reads: deque[tuple[int, Job]] = deque()
        self._writes: deque[tuple[int, Job]] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_over = False
        self._num_alive = num_threads
        for i in range(num_threads):
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True).start()

    def submit(self, operation: int, job: Job, *, is_read: bool) -> None:
        """Run a job soon; what it raises ends its operation.

        Raises:
            OffloadError: the pool is closed.
        """
        with self._changed:
            if self._is_closed:
                raise OffloadError("the mover of pages is closed, and copies nothing any more")
            (self._reads if is_read else self._writes).append((operation, job))
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """Forget what has not begun, and wait for what has; whether all of it has ended."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._is_closed = True
            self._reads.clear()
            self._writes.clear()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._is_over, max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (task := self._next()) is not None:
            operation, job = task
            self._ended.add(Moved(operation, _error_of(job)))
            del task, job  # while there is nothing to do, the memory of the last job belongs to nobody
        with self._changed:
            self._num_alive -= 1
            is_last = not self._num_alive
        if is_last:
            try:
                if self._on_last_exit is not None:
                    self._on_last_exit()
            finally:
                with self._changed:
                    self._is_over = True
                    self._changed.notify_all()

    def _next(self) -> tuple[int, Job] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._reads or self._writes)
            if self._is_closed:
                return None
            return (self._reads or self._writes).popleft()


def _error_of(job: Job) -> OffloadError | None:
    try:
        job()
    except OffloadError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a copy that is never reported would hold its request for ever
        return OffloadError(f"a copy of a page failed: {error!r}")
    return None
