"""How pages get from the blocks of a device to slots of host memory, and back."""

from collections.abc import Callable
from typing import Protocol

from pagedkv.block_ids import Int64s
from pagedkv.events import EventStream

__all__ = ["BlockCopier"]


class BlockCopier(Protocol):
    """Copies between blocks and slots, in the order of the device."""

    def tell(self, events: EventStream) -> None:
        """Tell this stream from now on what steps wait for."""

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy blocks to slots, before anything that the device does later."""

    def load(self, operation: int, slots: Int64s, blocks: Int64s) -> None:
        """Start to copy slots to blocks, after everything that the device was told to do before."""

    def guard(self, slot: int) -> Callable[[], None]:
        """What a thread calls before it reads or writes a slot: returns when no store writes it any more."""

    def poll(self) -> None:
        """Look which loads have ended, if they do not tell."""

    def wait(self, timeout_s: float) -> None:
        """Return when a copy may have ended, or after so many seconds."""

    def finish(self) -> None:
        """Return when all copies have ended."""

    def close(self) -> None:
        """Let all copies end, and give everything back."""
