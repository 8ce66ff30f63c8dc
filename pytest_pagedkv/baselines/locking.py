"""One writer at a time, also among processes that know nothing of each other.

The system drops a lock with the process that holds it, so none is ever left behind.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]

_PATIENCE_S = 30.0
_PAUSE_S = 0.02


@contextmanager
def locked(folder: Path, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Be the only writer of a folder, which is made if it is not there. The lock leaves no file.

    Args:
        folder: what is written to.
        patience_s: how long to wait for another writer.

    Raises:
        OSError: the folder cannot be made or locked, or another process held it for that long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, time.monotonic() + patience_s)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "another process is writing there, and does not end") from None
            time.sleep(_PAUSE_S)
