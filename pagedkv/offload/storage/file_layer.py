"""The system calls that the page file needs, in one place, so that tests can let them fail."""

import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["FileLayer"]


class FileLayer:
    """Calls of the operating system; each may raise `OSError`; several threads may use it at once."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor of a file or folder that only its owner may use."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        """Give a descriptor back."""
        os.close(fd)

    def names(self, folder: Path) -> Sequence[str]:
        """What lies in a folder."""
        return [path.name for path in folder.iterdir()]

    def unlink(self, path: Path) -> None:
        """Take a file's name away."""
        path.unlink()

    def lock(self, fd: int) -> None:
        """Lock a file for as long as it is open; `BlockingIOError` if somebody else has."""
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def stop_direct_io(self, fd: int) -> None:
        """Use the page cache of the operating system from now on."""
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT)

    def free_bytes(self, folder: Path) -> int:
        """What the file system can still take."""
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize  # it does not tell

    def size(self, fd: int) -> int:
        """Bytes up to the end of a file."""
        return os.fstat(fd).st_size

    def allocate(self, fd: int, offset: int, num_bytes: int) -> None:
        """Reserve a part of a file, so that writing there needs no more room."""
        os.posix_fallocate(fd, offset, num_bytes)

    def read(self, fd: int, page: memoryview, offset: int) -> int:
        """Read into memory; fewer bytes than it takes may come, and none at the end of the file."""
        return os.preadv(fd, [page], offset)

    def write(self, fd: int, page: memoryview, offset: int) -> int:
        """Write memory; fewer bytes than it has may be written."""
        return os.pwritev(fd, [page], offset)
