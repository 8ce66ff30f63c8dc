"""Random programs of a cache over real tiers, whose disk, memory and copies fail; every byte is looked at."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pagedkv import BlockManager, CacheConfig, OffloadConfig
from pagedkv.block_ids import Int64s
from pagedkv.clock import WallClock
from pagedkv.errors import OffloadError, OutOfBlocks
from pagedkv.offload.mover import Moved
from pagedkv.offload.storage import StorageMover
from pagedkv.offload.storage.cpu import CpuCopier, pages_of
from pagedkv.offload.storage.host_pool import HostPool
from pagedkv.offload.storage.io_pool import Ended
from pagedkv.offload.storage.page_file import PageFile
from pagedkv.offload.tiers import PageTiers
from tests.offload.storage.faulty_files import FaultyFiles, FileFault
from tests.offload.storage.stores import small_store

if TYPE_CHECKING:
    from pagedkv.block_manager import PageIn

__all__ = ["FaultProgram"]

BLOCK_SIZE = 8
PAGE_BYTES = 1024
STRIDE = 4096
DEADLINE_S = 20.0
OPERATIONS = {
    "admit": 6,
    "release": 8,  # more often than admissions, so that blocks are idle and pages find room
    "ask": 6,
    "poll": 5,
    "give up": 1,
    "wait": 2,
    "settle": 4,
    "reset": 0.1,
}
SETTLE_S = 0.05  # copies that take longer go on meanwhile
FAMILIES = [[i // 3] * BLOCK_SIZE + [i] * (4 * BLOCK_SIZE) for i in range(15)]


@cache
def content(tokens: tuple[int, ...]) -> bytes:
    """The KV of a prefix's last block."""
    return random.Random(str(tokens)).randbytes(PAGE_BYTES)  # noqa: S311


class FaultyCopier(CpuCopier):
    """Stores are refused and loads fail now and then."""

    def __init__(self, rng: random.Random, counts: Counter[str], rate: float, *parts: object) -> None:
        super().__init__(*parts)
        self.rng, self.counts, self.rate = rng, counts, rate

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy, or leave half of it."""
        if self._fails("store refused"):
            super().store(blocks[::2], slots[::2])
            raise OffloadError("no store")
        super().store(blocks, slots)

    def load(self, operation: int, slots: Int64s, blocks: Int64s) -> None:
        """Copy, or leave it."""
        if self._fails("load failed"):
            self._ended.add(Moved(operation, OffloadError("no load")))
        else:
            super().load(operation, slots, blocks)

    def _fails(self, what: str) -> bool:
        fails = self.rng.random() < self.rate
        self.counts[what] += fails
        return fails


class FaultProgram:
    """One program.

    Args:
        seed: of everything.
        folder: where the file lies.
        rates: how likely the disk's faults are; by default a few, drawn by seed.

    Attributes:
        counts: what has happened.
    """

    def __init__(self, seed: int, folder: Path, rates: Mapping[FileFault, float] | None = None) -> None:
        self.rng = rng = random.Random(seed)  # noqa: S311
        self.counts: Counter[str] = Counter()
        self.files = FaultyFiles(seed, slow_s=rng.choice([0.0005, 0.005]))
        self.store = small_store(rng.randrange(8, 16), block_size=BLOCK_SIZE)
        self.memory = pages_of(self.store)
        config = OffloadConfig(
            policy=rng.choice(["lru", "arc", "fifo"]),
            io_threads=rng.randrange(1, 4),
            queue_depth=rng.choice([1, 2, 8]),
            direct_io=rng.random() < 0.7,
        )
        self.cache = BlockManager(
            CacheConfig(num_blocks=len(self.memory), block_size=BLOCK_SIZE),
            partial(PageTiers, self.opened(config, folder), config, clock=WallClock()),
        )
        self.tiers = self.cache.tiers
        self.live: dict[int, list[int]] = {}
        self.page_ins: dict[PageIn, list[int]] = {}
        self.next_id = 0
        faults = rng.sample(list(FileFault), rng.randrange(1, 7))
        self.files.rates = rates or {fault: rng.choice([0.02, 0.1, 0.4]) for fault in faults}

    def opened(self, config: OffloadConfig, folder: Path) -> StorageMover:
        """A mover, for which not all memory could be pinned."""
        rng, ended = self.rng, Ended()
        limit = STRIDE * rng.randrange(2, 40)
        granted: list[bool] = []
        pool = HostPool.open(
            PAGE_BYTES,
            num_blocks=len(self.memory),
            pinned_bytes=STRIDE * rng.randrange(2, 20),
            pin=lambda _, num_bytes: granted.append(num_bytes <= limit) or granted[-1],
        )
        self.counts["pinning refused"] += granted.count(False)
        file = None
        if rng.random() < 0.9:
            file = PageFile(
                folder,
                page_bytes=PAGE_BYTES,
                stride=STRIDE,
                max_bytes=STRIDE * rng.randrange(2, 60),
                direct_io=config.direct_io,
                files=self.files,
            )
        rate = rng.choice([0, 0.02, 0.2])
        copier = FaultyCopier(random.Random(rng.random()), self.counts, rate, self.store, pool, ended)  # noqa: S311
        mover = StorageMover(
            copier, pool, file, ended, num_blocks=len(self.memory), num_threads=config.io_threads
        )
        mover.bandwidth = dict.fromkeys(("page_out", "page_in", "spill", "fetch"), 10**9)
        return mover

    # ---- steps

    def run(self, num_steps: int) -> None:
        """Run steps, let everything end, and see that all is home."""
        try:
            for number in range(num_steps):
                [name] = self.rng.choices(list(OPERATIONS), list(OPERATIONS.values()))
                getattr(self, name.replace(" ", "_"))()
                if not number % 20:
                    self.cache.check_integrity()
            self.files.heal()
            self.check_home()
        finally:
            self.files.heal()
            self.tiers.close()

    def admit(self, tokens: Sequence[int] | None = None) -> None:
        """A sequence whose reused blocks hold what they should; the others are written."""
        if tokens is None:
            tokens = self.rng.choice(FAMILIES)[: self.rng.choice([41, 33, 20])]
        self.next_id += 1
        try:
            placement = self.cache.admit(self.next_id, tokens)
        except OutOfBlocks:
            self.counts["out of blocks"] += 1
            return
        self.live[self.next_id] = list(tokens)
        num_hit = placement.num_cached_tokens // BLOCK_SIZE
        self.counts["blocks hit"] += num_hit
        blocks = self.cache.block_table(self.next_id).tolist()
        self.check(self.next_id, num_hit)
        for i in range(num_hit, len(tokens) // BLOCK_SIZE):
            block = self.memory[blocks[i]]
            block[:] = np.frombuffer(content(tuple(tokens[: (i + 1) * BLOCK_SIZE])), np.uint8).reshape(
                block.shape
            )

    def check(self, seq_id: int, num_blocks: int) -> None:
        """The leading blocks of a sequence hold its KV."""
        tokens = self.live[seq_id]
        for i, block in enumerate(self.cache.block_table(seq_id).tolist()[:num_blocks]):
            expected = content(tuple(tokens[: (i + 1) * BLOCK_SIZE]))
            assert self.memory[block].tobytes() == expected, f"block {block} of {seq_id} holds other bytes"

    def release(self, seq_id: int | None = None) -> None:
        """A sequence ends, and nobody has written to its blocks."""
        if self.live:
            seq_id = seq_id or self.rng.choice(list(self.live))
            self.check(seq_id, len(self.live[seq_id]) // BLOCK_SIZE)
            self.cache.release(seq_id)
            del self.live[seq_id]

    def ask(self) -> None:
        """Ask for the pages of a prompt."""
        tokens = self.rng.choice(FAMILIES)
        prefix = self.cache.paged_prefix(tokens, max_pages=self.rng.choice([None, 1, 3]))
        if not prefix.num_paged:
            return
        free = self.cache.pool.num_free
        try:
            self.page_ins[self.cache.begin_page_in(prefix)] = tokens
        except OutOfBlocks:
            self.counts["out of blocks"] += 1
            assert self.cache.pool.num_free == free

    def poll(self) -> None:
        """Those whose pages have come begin, or do not care any more."""
        for page_in in self.cache.poll_page_ins():
            self.counts["pages asked for"] += page_in.num_pages
            self.counts["pages to recompute"] += page_in.num_failed
            if self.rng.random() < 0.8:
                self.admit(self.page_ins[page_in])
            self.cache.end_page_in(page_in)
            del self.page_ins[page_in]

    def give_up(self) -> None:
        """An abort, while pages are on their way."""
        if self.page_ins:
            page_in = self.rng.choice(list(self.page_ins))
            self.counts["aborted page-ins"] += not page_in.has_ended
            del self.page_ins[page_in]
            self.cache.end_page_in(page_in)

    def wait(self) -> None:
        """Let copies go on."""
        self.tiers.wait(0.002)

    def settle(self) -> None:
        """Let copies end, but those that hang; so pages reach the file however fast steps are."""
        deadline = time.monotonic() + SETTLE_S
        while self.num_under_way and time.monotonic() < deadline:
            self.tiers.wait(0.002)
            self.poll()

    def reset(self) -> None:
        """Forget everything."""
        self.cache.reset_prefix_cache()

    @property
    def num_under_way(self) -> int:
        """Pages on their way up or down, and reads that nobody wants any more but which use a slot."""
        return self.tiers.num_rising + self.tiers.num_spilling + self.tiers.num_fetching

    # ---- the end

    def check_home(self) -> None:
        """Everything ends in time; every block, slot and place is free."""
        for seq_id in list(self.live):
            self.release(seq_id)
        deadline = time.monotonic() + DEADLINE_S
        while self.page_ins or self.num_under_way:
            self.tiers.wait(0.05)
            for page_in in self.cache.poll_page_ins():
                self.cache.end_page_in(page_in)
                del self.page_ins[page_in]
            assert time.monotonic() < deadline, "copies hang"
        for seq_id in list(self.live):
            self.release(seq_id)
        self.cache.reset_prefix_cache()
        self.cache.check_integrity()
        assert self.cache.pool.num_free == self.cache.pool.num_blocks
        table = self.tiers._table
        assert len(table.spare_slots) == table.num_slots
        assert len(table.spare_places) == table.num_places
        assert self.tiers.num_kept == 0
