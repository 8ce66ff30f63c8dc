"""A mover that carries shadow memory, takes time, and may fail."""

from collections.abc import Callable, Sequence

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.clock import VirtualClock
from pagedkv.errors import CorruptPage, OffloadError
from pagedkv.offload.mover import Moved
from pagedkv.simulate.mover import SimulatedMover
from pagedkv.simulate.profiles import device_profile

__all__ = ["ShadowMover"]

Content = list[tuple[int, ...] | None]


class ShadowMover(SimulatedMover):
    """Copies what slots remember; a load writes its blocks at once, and finds them so when it ends.

    A real one writes them at any time in between, so nobody else may.

    Args:
        clock: the clock.
        num_slots: pages of host memory.
        num_places: pages of the file.
        seed: of the faults; None for none.
    """

    def __init__(self, clock: VirtualClock, *, num_slots: int, num_places: int, seed: int | None) -> None:
        super().__init__(
            clock,
            device_profile("l4"),
            page_bytes=40 << 20,  # so that a page takes milliseconds
            num_slots=num_slots,
            num_places=num_places,
        )
        self.device: Content = []
        self.block_size = 1
        self._random = None if seed is None else np.random.default_rng(seed)
        self._host: dict[int, Content] = {}
        self._file: dict[int, Content] = {}
        self._copies: dict[int, Callable[[], None]] = {}

    def attach(self, device: Content, block_size: int) -> None:
        """Say what memory the blocks are."""
        self.device, self.block_size = device, block_size

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Remember what the blocks hold now."""
        super().store(blocks, slots)
        if self._fails(0.1):
            raise OffloadError("the link is down")
        for block, slot in zip(blocks.tolist(), slots.tolist(), strict=True):
            start = block * self.block_size
            self._host[slot] = self.device[start : start + self.block_size]

    def load(self, slots: Int64s, blocks: Int64s) -> int:
        """Write the blocks now, and see at the end that nobody else did."""
        size = self.block_size
        pairs = [
            (block, self._host[slot]) for slot, block in zip(slots.tolist(), blocks.tolist(), strict=True)
        ]
        for block, content in pairs:
            self.device[block * size : (block + 1) * size] = content

        def finish() -> None:
            for block, content in pairs:
                found = self.device[block * size : (block + 1) * size]
                assert found == content, f"block {block} was written while a page came into it"

        return self._later(super().load(slots, blocks), finish)

    def spill(self, slot: int, place: int) -> int:
        """Write the place at the end."""

        def finish() -> None:
            self._file[place] = self._host[slot]

        return self._later(super().spill(slot, place), finish)

    def fetch(self, place: int, slot: int) -> int:
        """Write the slot at the end."""

        def finish() -> None:
            self._host[slot] = self._file[place]

        return self._later(super().fetch(place, slot), finish)

    def poll(self) -> Sequence[Moved]:
        """Do what has ended, unless it fails."""
        ended: list[Moved] = []
        for moved in super().poll():
            finish = self._copies.pop(moved.operation)
            if self._fails(0.15):
                kind = CorruptPage if self._fails(0.5) else OffloadError
                ended.append(Moved(moved.operation, kind("planned")))
            else:
                finish()
                ended.append(moved)
        return ended

    def _later(self, operation: int, finish: Callable[[], None]) -> int:
        self._copies[operation] = finish
        return operation

    def _fails(self, share: float) -> bool:
        return self._random is not None and bool(self._random.random() < share)
