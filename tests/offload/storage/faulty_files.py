"""System calls that fail, by seed: what disks and file systems do to a page file."""

import enum
import errno
import mmap
import os
import threading
from collections import Counter
from collections.abc import Mapping
from random import Random

from pagedkv.offload.storage import FileLayer

__all__ = ["FaultyFiles", "FileFault"]

_UNIT = 4096  # what direct IO moves at least


class FileFault(enum.Enum):
    """What can happen in a call."""

    NO_SPACE = errno.ENOSPC
    """A write or a reservation finds the disk full."""
    IO_ERROR = errno.EIO
    """A read or a write fails."""
    DENIED = errno.EACCES
    """A read or a write is not allowed any more."""
    INTERRUPTED = errno.EINTR
    """A signal came first: nothing was moved."""
    SHORT = "short"
    """Only a part is moved; where that ends is nobody's choice."""
    FLIPPED_BIT = "flipped bit"
    """A bit of what is stored is another one from now on; found by a read."""
    LOST_WRITE = "lost write"
    """What is stored stays as it was, and the disk says otherwise."""
    TRUNCATED = "truncated"
    """The file ends somewhere, from now on; found by a read."""
    DELETED = "deleted"
    """Everything in the file is gone; found by a read."""
    SLOW = "slow"
    """The call takes `slow_s`, or until `heal`."""


_READS = frozenset(FileFault) - {FileFault.NO_SPACE, FileFault.LOST_WRITE}
_WRITES = frozenset(FileFault) - {FileFault.FLIPPED_BIT, FileFault.TRUNCATED, FileFault.DELETED}
_RESERVATIONS = frozenset({FileFault.NO_SPACE, FileFault.SLOW})


class FaultyFiles(FileLayer):
    """A `FileLayer` with faults.

    What happens to the n-th read or write of a place depends on the seed, the place and n alone, not on how
    threads take turns.

    Args:
        seed: of everything.
        rates: how likely each fault is in a call that it can happen to; they may be changed at any time.
        slow_s: what a slow call takes.

    Attributes:
        rates: as given.
        next_reads: by offset, what happens to the next read there, whatever the rates.
        counts: faults so far.
    """

    def __init__(
        self, seed: int = 0, rates: Mapping[FileFault, float] | None = None, *, slow_s: float = 0.001
    ) -> None:
        self.rates: Mapping[FileFault, float] = dict(rates or {})
        self.next_reads: dict[int, FileFault] = {}
        self.counts: Counter[FileFault] = Counter()
        self._seed, self._slow_s = seed, slow_s
        self._num_calls: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._healed = threading.Event()

    def heal(self) -> None:
        """Nothing fails any more, and calls that are slow end."""
        self.rates = {}
        self._healed.set()

    def allocate(self, fd: int, offset: int, num_bytes: int) -> None:
        """Reserve, or find no space."""
        fault, _ = self._draw("allocate", offset, _RESERVATIONS)
        self._raise(fault)
        super().allocate(fd, offset, num_bytes)

    def read(self, fd: int, page: memoryview, offset: int) -> int:
        """Read, or not quite."""
        fault, random = self._draw("read", offset, _READS)
        self._raise(fault)
        if fault is FileFault.TRUNCATED:
            os.ftruncate(fd, random.randrange(os.fstat(fd).st_size + 1))
        elif fault is FileFault.DELETED:
            os.ftruncate(fd, 0)
        elif fault is FileFault.FLIPPED_BIT:
            _flip(fd, offset + random.randrange(len(page)), 1 << random.randrange(8))
        moved = super().read(fd, page, offset)
        if fault is FileFault.SHORT and moved > 1:
            moved = random.randrange(1, moved)
            page[moved:] = b"?" * (len(page) - moved)
        return moved

    def write(self, fd: int, page: memoryview, offset: int) -> int:
        """Write, or not quite."""
        fault, random = self._draw("write", offset, _WRITES)
        self._raise(fault)
        if fault is FileFault.LOST_WRITE:
            return len(page)
        if fault is FileFault.SHORT and len(page) > 1:
            moved = random.randrange(1, len(page))
            whole = moved // _UNIT * _UNIT
            return moved if not whole else super().write(fd, page[:whole], offset)
        return super().write(fd, page, offset)

    def _draw(
        self, call: str, offset: int, possible: frozenset[FileFault]
    ) -> tuple[FileFault | None, Random]:
        """What happens in this call, and random numbers for how."""
        with self._lock:
            number = self._num_calls[call, offset] = self._num_calls[call, offset] + 1
            chosen = self.next_reads.pop(offset, None) if call == "read" else None
            random = Random(f"{self._seed} {call} {offset} {number}")  # noqa: S311 - a fault is no secret
            if chosen is None:
                chosen = next(
                    (
                        fault
                        for fault, rate in self.rates.items()
                        if fault in possible and random.random() < rate
                    ),
                    None,
                )
            if chosen is not None:
                self.counts[chosen] += 1
        return chosen, random

    def _raise(self, fault: FileFault | None) -> None:
        if fault is FileFault.SLOW:
            self._healed.wait(self._slow_s)
        elif fault is not None and isinstance(fault.value, int):
            raise OSError(fault.value, os.strerror(fault.value))


def _flip(fd: int, offset: int, mask: int) -> None:
    """Flip a bit of a file that may be open for direct IO."""
    unit = memoryview(mmap.mmap(-1, _UNIT))
    start = offset // _UNIT * _UNIT
    if os.preadv(fd, [unit], start) == _UNIT:
        unit[offset - start] ^= mask
        os.pwritev(fd, [unit], start)
