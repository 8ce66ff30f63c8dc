"""Pages moved by the real mover on this machine, each beside a plain program that moves the same bytes.

Times depend on memory and disk. They are shown, and not judged: look at the rows of one test side by side.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pagedkv.config import OffloadConfig
from pagedkv.offload.mover import Mover
from pytest_pagedkv.perf.benchmark import Benchmark

pytest.importorskip("torch", reason="the mover's blocks are tensors")

pytestmark = pytest.mark.pagedkv_perf(group="offload storage", metric="wall")

NUM_PAGES = 64
ROUNDS = 8
"""Fewer than what the gate judges: memory and disks that others use too scatter by more than it tolerates."""
TIMEOUT_S = 30.0

Move = Callable[[], object]


@pytest.fixture(scope="module")
def mover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mover]:
    """Pages of 512 KiB, of 8 layers with 8 heads of 128 in 16 bits; half of the blocks are loaded to."""
    import torch

    from pagedkv.kv_store import KVStore
    from pagedkv.offload.storage import StorageMover

    store = KVStore(
        num_blocks=2 * NUM_PAGES,
        block_size=16,
        num_layers=8,
        num_kv_heads=8,
        head_dim=128,
        dtype=torch.bfloat16,
    )
    room = 2 * NUM_PAGES * store.block_bytes
    folder = tmp_path_factory.mktemp("pages")
    moves = StorageMover.open(store, OffloadConfig(pinned_bytes=room, nvme_path=folder, nvme_bytes=room))
    yield moves
    moves.close()


@pytest.fixture(scope="module")
def plain(mover: Mover, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Plain]":
    """The plain program, with pages of the same size."""
    program = Plain(tmp_path_factory.mktemp("plain"), mover.page_bytes)
    yield program
    program.close()


class Plain:
    """As many bytes, in memory that is aligned for direct IO, a file, and as many threads that use it."""

    def __init__(self, folder: Path, page_bytes: int) -> None:
        memory = mmap.mmap(-1, 2 * NUM_PAGES * page_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # as the mover's; memory that can be shared has none
            memory.madvise(mmap.MADV_HUGEPAGE)
        pages = np.frombuffer(memory, np.uint8).reshape(2, NUM_PAGES, page_bytes)
        pages[:] = 1
        self.pages, self.copies = pages
        self._file = _open_direct(folder / "pages")
        os.posix_fallocate(self._file, 0, self.pages.nbytes)
        self._threads = ThreadPoolExecutor(OffloadConfig().io_threads)

    def copy(self) -> None:
        """Page after page, in memory."""
        for page, copied in zip(self.pages, self.copies, strict=True):
            copied[:] = page

    def write(self) -> None:
        """Every page at its place."""
        self._each(lambda place: os.pwritev(self._file, [self.pages[place]], self._offset(place)))

    def read(self) -> None:
        """Every page from its place."""
        self._each(lambda place: os.preadv(self._file, [self.pages[place]], self._offset(place)))

    def _offset(self, place: int) -> int:
        return place * int(self.pages.shape[1])

    def _each(self, move: Callable[[int], int]) -> None:
        moved = sum(self._threads.map(move, range(NUM_PAGES)))
        assert moved == self.pages.nbytes, f"{moved} of {self.pages.nbytes} bytes were moved"

    def close(self) -> None:
        """Give the file back."""
        self._threads.shutdown()
        os.close(self._file)


def _open_direct(path: Path) -> int:
    """A new file past the page cache, where the file system can."""
    flags = os.O_RDWR | os.O_CREAT
    try:
        return os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o600)
    except OSError:
        return os.open(path, flags, 0o600)


def finish(mover: Mover, num_copies: int) -> None:
    """Wait until so many copies have ended."""
    while num_copies:
        mover.wait(TIMEOUT_S)
        ended = mover.poll()
        assert ended, f"{num_copies} copies have not ended in {TIMEOUT_S:g} s"
        for moved in ended:
            assert moved.error is None, moved.error
        num_copies -= len(ended)


def measure(benchmark: Benchmark, mover: Mover, move: Move, num_pages: int) -> None:
    """Time one way of moving pages; how much that is, is exact."""
    benchmark(move, rounds=ROUNDS)
    benchmark.record(pages=num_pages, bytes=num_pages * mover.page_bytes)


PAGES = np.arange(NUM_PAGES)
"""Blocks, slots or places; what is loaded goes to the blocks behind these."""


@pytest.mark.parametrize("way", ["out", "in", "plain"])
def test_host(pagedkv_benchmark: Benchmark, mover: Mover, plain: Plain, way: str) -> None:
    """32 MiB between blocks and slots of host memory."""

    def load() -> None:
        mover.load(PAGES, PAGES + NUM_PAGES)
        finish(mover, 1)

    mover.store(PAGES, PAGES)
    moves: dict[str, Move] = {"out": lambda: mover.store(PAGES, PAGES), "in": load, "plain": plain.copy}
    measure(pagedkv_benchmark, mover, moves[way], NUM_PAGES)


@pytest.mark.parametrize("way", ["spill", "plain write", "fetch", "plain read"])
def test_file(pagedkv_benchmark: Benchmark, mover: Mover, plain: Plain, way: str) -> None:
    """32 MiB between slots and the file, with checksums."""

    def spill() -> None:
        for page in range(NUM_PAGES):
            mover.spill(page, page)
        finish(mover, NUM_PAGES)

    def fetch() -> None:
        for page in range(NUM_PAGES):
            mover.fetch(page, page)
        finish(mover, NUM_PAGES)

    mover.store(PAGES, PAGES)
    spill()
    plain.write()
    moves: dict[str, Move] = {
        "spill": spill, "plain write": plain.write, "fetch": fetch, "plain read": plain.read
    }  # fmt: skip
    measure(pagedkv_benchmark, mover, moves[way], NUM_PAGES)


@pytest.mark.parametrize("tier", ["host", "file"])
def test_page_in_latency(pagedkv_benchmark: Benchmark, mover: Mover, tier: str) -> None:
    """One page, from asking for it to having it on the device."""

    def page_in() -> None:
        if tier == "file":
            mover.fetch(0, 0)
            finish(mover, 1)
        mover.load(PAGES[:1], PAGES[:1] + NUM_PAGES)
        finish(mover, 1)

    mover.store(PAGES, PAGES)
    mover.spill(0, 0)
    finish(mover, 1)
    measure(pagedkv_benchmark, mover, page_in, 1)
