"""System calls of a page file that fail for as long as a fault of the offload suite is there."""

import errno
import os
import threading
from pathlib import Path

from pagedkv.offload.storage import FileLayer
from pytest_pagedkv.conformance.offload.adapter import Fault

__all__ = ["FailingFiles"]

_ERRNO = {
    Fault.DISK_FULL: errno.ENOSPC,
    Fault.PERMISSION_DENIED: errno.EACCES,
    Fault.KILLED_PROCESS: errno.EBADF,
}
_READS = Fault.PERMISSION_DENIED | Fault.KILLED_PROCESS
_WRITES = _READS | Fault.DISK_FULL


class FailingFiles(FileLayer):
    """A `FileLayer` in which a `Fault` can be."""

    def __init__(self) -> None:
        self._active = Fault.NONE
        self._fd = self._short = -1
        self._moves = threading.Event()
        self._moves.set()

    def allocate(self, fd: int, offset: int, num_bytes: int) -> None:
        """Reserve."""
        self._meet(_WRITES)
        super().allocate(fd, offset, num_bytes)

    def read(self, fd: int, page: memoryview, offset: int) -> int:
        """Read; a short read ends in the middle, as if the file did."""
        self._meet(_READS)
        found = super().read(fd, page, offset)
        if self._active & Fault.SHORT_READ and offset == self._short:
            found //= 2
            page[found:] = bytes(len(page) - found)
        return found

    def write(self, fd: int, page: memoryview, offset: int) -> int:
        """Write."""
        self._fd = fd
        self._meet(_WRITES)
        return super().write(fd, page, offset)

    def inject(self, fault: Fault, offset: int) -> None:
        """Begin a fault, or spoil the place at an offset, if it is not negative."""
        self._active |= fault
        if fault == Fault.SLOW_DISK:
            self._moves.clear()
        elif fault == Fault.KILLED_PROCESS:
            self._moves.set()
        elif fault == Fault.SHORT_READ:
            self.let_be_short(offset)
        elif fault == Fault.FILE_DELETED and self._fd >= 0:
            os.ftruncate(self._fd, 0)
        elif fault == Fault.FLIPPED_BIT and self._fd >= 0 and offset >= 0:
            self._flip(offset)

    def let_be_short(self, offset: int) -> None:
        """Say of which place reads are short, while they are; a negative one is of none."""
        self._short = offset

    def heal(self) -> None:
        """End all faults."""
        self._active = Fault.NONE
        self._moves.set()

    def _meet(self, possible: Fault) -> None:
        self._moves.wait()
        for fault, number in _ERRNO.items():
            if self._active & possible & fault:
                raise OSError(number, os.strerror(number))

    def _flip(self, offset: int) -> None:
        """Change a bit of a file that may be open for direct IO, by another descriptor."""
        with Path(f"/proc/self/fd/{self._fd}").open("r+b") as file:
            file.seek(offset)
            found = file.read(1)
            file.seek(offset)
            file.write(bytes([byte ^ 1 for byte in found]))
