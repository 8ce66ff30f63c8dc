"""The interface between an offload tier and the suite that tests it. It imports only the standard library."""

import abc
import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pytest_pagedkv.adapter import Adapter

__all__ = ["BlockLost", "Done", "Fault", "OffloadAdapter", "OffloadError", "TierFull", "TierUnavailable"]


class Fault(enum.Flag):
    """What can happen to a tier. An adapter says which of them it can simulate; the others are not tested."""

    NONE = 0
    DISK_FULL = enum.auto()
    """Until `heal`, writes to the tier fail for lack of space."""
    PERMISSION_DENIED = enum.auto()
    """Until `heal`, the tier's files can be neither read nor written."""
    SLOW_DISK = enum.auto()
    """Until `heal`, no copy to or from the tier finishes."""
    SHORT_READ = enum.auto()
    """Until `heal`, reads of a handle's bytes come back short."""
    FLIPPED_BIT = enum.auto()
    """A bit of a handle's stored bytes is changed, for good."""
    FILE_DELETED = enum.auto()
    """The file that holds a handle's bytes is deleted; so are the others in it."""
    KILLED_PROCESS = enum.auto()
    """The process ends at once; another one opens the same folder."""


class OffloadError(Exception):
    """What may go wrong. Nothing else may come out of a tier, but for misuse."""


class TierFull(OffloadError):
    """A block was not stored, because there is no room."""


class BlockLost(OffloadError):
    """A stored block is gone, or its bytes are not what they were. It has to be computed again."""


class TierUnavailable(OffloadError):
    """The tier cannot be used now, or is too slow. What is stored is not lost."""


@dataclass(frozen=True, slots=True)
class Done:
    """An operation has ended.

    Attributes:
        operation: its id.
        error: why it failed; None if it did not.
    """

    operation: int
    error: OffloadError | None = None


class OffloadAdapter(Adapter):
    """A tier, and the device blocks that it copies from and to.

    Copies run in the background. A store reads its block, a load writes it, and while one may still do so the
    block is busy. The suite does what an engine does: it never writes a busy block, and it writes one that is
    not busy at once, with other bytes. Operation ids and handles are chosen by the tier; the handle of a
    stored block is the id of the operation that stored it.

    Args:
        num_blocks: device blocks.
        block_bytes: size of a block, of all its layers.
        folder: where files go; a tier that was killed leaves its own there.
        capacity_blocks: most blocks that the tier keeps.

    Attributes:
        faults: those that `inject` can simulate.
        block_bytes_taken: block sizes, in bytes; the suite draws from them.
        timeout_s: how long an operation may take at most, without a fault.
        slack_bytes: by how much the tier's files may stay larger than those of a new one (a journal, say).
    """

    faults: ClassVar[Fault] = Fault.NONE
    block_bytes_taken: ClassVar[Sequence[int]] = (512, 4096)
    timeout_s: ClassVar[float] = 5.0
    slack_bytes: ClassVar[int] = 0

    def __init__(self, num_blocks: int, block_bytes: int, folder: Path, capacity_blocks: int) -> None:
        self.num_blocks, self.block_bytes = num_blocks, block_bytes
        self.folder, self.capacity_blocks = folder, capacity_blocks

    # ---- the device's side

    @abc.abstractmethod
    def write_block(self, block_id: int, data: bytes) -> None:
        """Write a device block as a kernel does: whatever the tier is doing."""

    @abc.abstractmethod
    def read_block(self, block_id: int) -> bytes:
        """Read a device block."""

    # ---- the tier

    @abc.abstractmethod
    def submit_store(self, block_id: int) -> int:
        """Start to store a block's bytes as they are now. Does not block.

        Returns:
            The operation, which is the block's handle once it is done without error.

        Raises:
            TierFull: there is no room.
            TierUnavailable: the tier cannot take it now; the queue is full, say.
        """

    @abc.abstractmethod
    def submit_load(self, handle: int, block_id: int) -> int:
        """Start to bring stored bytes to a block. Does not block. The bytes stay stored.

        Returns:
            The operation. The block is busy until it is reported as done.

        Raises:
            KeyError: the handle is not stored.
            BlockLost: its bytes are gone.
            TierUnavailable: the tier cannot take it now.
        """

    @abc.abstractmethod
    def poll(self) -> Sequence[Done]:
        """Operations that have ended and were not reported yet. Does not block."""

    @abc.abstractmethod
    def wait(self, operation: int, timeout_s: float) -> Done:
        """Wait for an operation that was not reported yet, and report it.

        Raises:
            TimeoutError: it has not ended; it goes on.
        """

    @abc.abstractmethod
    def busy_blocks(self) -> Collection[int]:
        """Device blocks that a copy may still read or write. Any other may be written at once."""

    @abc.abstractmethod
    def drop(self, handle: int) -> None:
        """Forget a stored block. A load of it that is under way ends with its bytes, or with BlockLost.

        Raises:
            KeyError: the handle is not stored.
        """

    @abc.abstractmethod
    def stored(self) -> Collection[int]:
        """Handles that can be loaded; after a kill those that another process left and this one can use."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop threads. What is in flight may or may not end."""

    # ---- faults

    def inject(self, fault: Fault, handle: int) -> None:
        """Make a fault happen (`faults`).

        Args:
            fault: one of them; never KILLED_PROCESS.
            handle: a stored block, for those that hit one.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot simulate {fault}")

    def heal(self) -> None:
        """End DISK_FULL, PERMISSION_DENIED, SLOW_DISK and SHORT_READ."""

    def kill(self) -> None:
        """Stop as a killed process does (`Fault.KILLED_PROCESS`): nothing is finished, nothing cleaned up.

        Nothing else is called afterwards; the suite opens the folder anew.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be killed")
