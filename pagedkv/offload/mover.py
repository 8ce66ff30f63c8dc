"""What moves pages: threads and files, or a model of them on a virtual clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pagedkv.block_ids import Int64s
from pagedkv.errors import OffloadError
from pagedkv.events import EventStream, Route

__all__ = ["Moved", "Mover"]


@dataclass(frozen=True, slots=True)
class Moved:
    """A copy has ended.

    Attributes:
        operation: its number.
        error: why it failed; None if it did not. `CorruptPage` if the bytes are not those that were stored;
            any other one says nothing about them.
    """

    operation: int
    error: OffloadError | None = None


class Mover(Protocol):
    """Copies pages between blocks of the device, slots of host memory, and places of a file.

    A page is a block's KV in all layers, in one piece. Who calls says which slot and place hold what, and
    does not use one for something else before the copies that name it have ended. Nothing but `store` and
    `wait` waits for a copy; what is submitted is never refused, but may fail.
    """

    @property
    def page_bytes(self) -> int:
        """Bytes of a page."""

    @property
    def num_slots(self) -> int:
        """Slots of host memory that were granted."""

    @property
    def num_places(self) -> int:
        """Places of the file; 0 without one."""

    @property
    def bandwidth(self) -> Mapping[Route, int]:
        """Bytes per second of each route, measured when it was made; without a file, of the first two."""

    def tell(self, events: EventStream) -> None:
        """Tell this stream from now on what steps wait for, as `StreamAwaited`."""

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy blocks to slots.

        Whatever the device does later may overwrite the blocks, and later copies of this mover may read the
        slots, though this one may still be under way when the call returns.

        Raises:
            OffloadError: nothing can be trusted to be in these slots.
        """

    def load(self, slots: Int64s, blocks: Int64s) -> int:
        """Start to copy slots to blocks; the blocks belong to the copy until it has ended."""

    def spill(self, slot: int, place: int) -> int:
        """Start to write a slot to a place of the file."""

    def fetch(self, place: int, slot: int) -> int:
        """Start to read a place of the file, as it was last written, into a slot."""

    def poll(self) -> Sequence[Moved]:
        """Copies that have ended and were not reported yet."""

    def wait(self, timeout_s: float) -> None:
        """Return when there is something to `poll`, or after so many seconds."""

    def next_ns(self) -> int | None:
        """When a copy ends next, where that is known; None where it is not, or none is under way."""

    def close(self) -> None:
        """Stop, and give everything back. Copies that are under way end first, or never."""
