"""Forks processes that use a page file and are killed: at each of their system calls, or at any time.

Run as `killed_worker.py FOLDER`; it prints a JSON object: for each kind of file system, the signals that
ended the processes, and the files that were in the folder at any time afterwards.
"""

import errno
import json
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pagedkv.offload.storage.file_layer import FileLayer
from pagedkv.offload.storage.page_file import PageFile

_NUM_CALLS = 24
_NUM_TIMES = 60
_PAGE = 8192
_CALLS = ("close", "names", "unlink", "lock", "free_bytes", "allocate", "read", "write")


class Named(FileLayer):
    """A file system without files that have no name."""

    def open(self, path: Path, flags: int) -> int:
        """Refuse to."""
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return super().open(path, flags)


def killed_at(base: type[FileLayer], number: int) -> FileLayer:
    """System calls of which one, counted before and after each, kills the process."""
    num_calls = 0

    def count() -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: object) -> object:
            count()
            result = call(*arguments)
            count()
            return result

        return method

    return type("Killed", (base,), {name: counted(getattr(base, name)) for name in _CALLS})()


def use(folder: Path, files: FileLayer) -> None:
    """Write and read pages until somebody ends this."""
    page = memoryview(mmap.mmap(-1, _PAGE))
    file = PageFile(folder, page_bytes=_PAGE, stride=_PAGE, max_bytes=20 * _PAGE, files=files)
    for place in range(1_000_000):
        file.write(place % 20, page)
        file.read(place % 20, page)


def forked(folder: Path, files: FileLayer, delay_s: float | None) -> int:
    """Use a page file in another process; the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            use(folder, files)
        finally:
            os._exit(1)
    if delay_s is not None:
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def main(folder: Path) -> None:
    """Everything, on each kind of file system."""
    report = {}
    chosen = random.Random(7)  # noqa: S311 - when a process ends is no secret
    for base in (FileLayer, Named):
        signals, left = set(), set()
        for number in range(1, _NUM_CALLS):
            signals.add(forked(folder, killed_at(base, number), None))
            left |= {path.name for path in folder.iterdir()}
        for _ in range(_NUM_TIMES):
            signals.add(forked(folder, base(), chosen.uniform(0, 0.01)))
            left |= {path.name for path in folder.iterdir()}
        report[base.__name__] = {"signals": sorted(signals), "left": sorted(left)}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
