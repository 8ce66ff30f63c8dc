"""What the harness knows of blocks, of copies in flight and of what is stored."""

import random
from dataclasses import dataclass, field
from pathlib import Path

from pytest_pagedkv.conformance.offload.adapter import (
    BlockLost,
    Fault,
    OffloadError,
    TierFull,
    TierUnavailable,
)

__all__ = ["Load", "Store", "Stored", "file_usage", "pattern", "share_of"]

_CHUNK_BYTES = 16


@dataclass(slots=True)
class Stored:
    """A stored block.

    Attributes:
        data: its bytes.
        overwritten: what the suite wrote to its source during the store, when that was not busy.
        is_hit: a fault has hit it for good: it may be lost.
        is_short: its reads come back short.
        is_left: another process has left it.
    """

    data: bytes
    overwritten: list[bytes] = field(default_factory=list)
    is_hit: bool = False
    is_short: bool = False
    is_left: bool = False


@dataclass(slots=True)
class Store:
    """A store in flight.

    Attributes:
        block: its source.
        data: the bytes that the source had when it was submitted.
        is_beyond: there was no room.
        faults: those that were there at some time since.
        overwritten: what the suite has written to the source meanwhile.
    """

    block: int
    data: bytes
    is_beyond: bool
    faults: Fault = Fault.NONE
    overwritten: list[bytes] = field(default_factory=list)

    @property
    def allowed(self) -> set[type[OffloadError]]:
        """Errors that it may end with."""
        errors: set[type[OffloadError]] = set()
        if self.is_beyond or self.faults & Fault.DISK_FULL:
            errors.add(TierFull)
        if self.faults & (Fault.PERMISSION_DENIED | Fault.SLOW_DISK):
            errors.add(TierUnavailable)
        return errors

    def __str__(self) -> str:
        return f"the store of block {self.block}"


@dataclass(slots=True)
class Load:
    """A load in flight.

    Attributes:
        handle: what is loaded.
        block: where to.
        stored: what is stored under the handle.
        faults: those that were there at some time since.
        is_dropped: the handle was dropped meanwhile.
    """

    handle: int
    block: int
    stored: Stored
    faults: Fault = Fault.NONE
    is_dropped: bool = False

    @property
    def allowed(self) -> set[type[OffloadError]]:
        """Errors that it may end with."""
        errors: set[type[OffloadError]] = set()
        is_short = bool(self.faults & Fault.SHORT_READ)
        if self.stored.is_hit or self.is_dropped or is_short:
            errors.add(BlockLost)
        if is_short or self.faults & (Fault.PERMISSION_DENIED | Fault.SLOW_DISK):
            errors.add(TierUnavailable)
        return errors

    def __str__(self) -> str:
        return f"the load of handle {self.handle} to block {self.block}"


def pattern(number: int, num_bytes: int) -> bytes:
    """Bytes that no other number has."""
    return random.Random(number).randbytes(num_bytes)  # noqa: S311 - they have to repeat, not to be secret


def share_of(found: bytes, data: bytes) -> float:
    """How much of what is found, chunk by chunk, is this data."""
    places = range(0, len(data), _CHUNK_BYTES)
    equal = sum(found[i : i + _CHUNK_BYTES] == data[i : i + _CHUNK_BYTES] for i in places)
    return equal / len(places)


def file_usage(folder: Path) -> tuple[int, int]:
    """Files in a folder, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)
