"""Threads that copy, and what they have finished."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pagedkv.errors import ConfigError, OffloadError
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

    They are daemons: one that is stuck in a disk that does not answer keeps no process from ending. A process
    that is forked has none of them.

    Args:
        num_threads: how many.
        name: what they are called.
        ended: where an operation goes when its job has ended.
        on_last_exit: called by the last thread that stops, when nobody uses what the jobs work on any more;
            also if not all threads could be started.

    Raises:
        ConfigError: the system starts fewer threads.
    """

    def __init__(self, num_threads: int, name: str, ended: Ended, on_last_exit: Job | None = None) -> None:
        self._ended, self._on_last_exit = ended, on_last_exit
        self._reads: deque[tuple[int, Job]] = deque()
        self._writes: deque[tuple[int, Job]] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_over = False
        self._num_alive = num_threads
        self._process = os.getpid()
        for i in range(num_threads):
            try:
                threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True).start()
            except RuntimeError as error:
                self._forget_all()
                self._leave(num_threads - i)
                raise ConfigError(
                    f"{i} of {num_threads} threads that copy were started ({error}): use fewer io_threads, "
                    "or look at `ulimit -u`"
                ) from error

    def submit(self, operation: int, job: Job, *, is_read: bool) -> None:
        """Run a job soon; what it raises ends its operation.

        Raises:
            OffloadError: the pool is closed, or its threads are another process's.
        """
        if self._process != os.getpid():
            raise OffloadError("pages are copied by threads, which a forked process does not have")
        with self._changed:
            if self._is_closed:
                raise OffloadError("the mover of pages is closed, and copies nothing any more")
            (self._reads if is_read else self._writes).append((operation, job))
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """Forget what has not begun, and wait for what has; whether all of it has ended."""
        deadline = time.monotonic() + timeout_s
        self._forget_all()
        with self._changed:
            return self._changed.wait_for(lambda: self._is_over, max(0.0, deadline - time.monotonic()))

    def _forget_all(self) -> None:
        """Let no thread begin anything any more."""
        with self._changed:
            self._is_closed = True
            self._reads.clear()
            self._writes.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            operation, job = task
            self._ended.add(Moved(operation, _error_of(job)))
            del task, job  # while there is nothing to do, the memory of the last job belongs to nobody
        self._leave(1)

    def _leave(self, num_threads: int) -> None:
        """So many threads stop, or never were; the last one gives back what the jobs work on."""
        with self._changed:
            self._num_alive -= num_threads
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
