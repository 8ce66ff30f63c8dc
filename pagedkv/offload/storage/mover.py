"""Pages moved by threads, streams and a file."""

import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pagedkv.block_ids import Int64s
from pagedkv.config import OffloadConfig
from pagedkv.errors import ConfigError, InvalidRequest, OffloadError
from pagedkv.offload.mover import Moved
from pagedkv.offload.storage.bandwidth import measure_bandwidth
from pagedkv.offload.storage.device import BlockCopier
from pagedkv.offload.storage.file_layer import FileLayer
from pagedkv.offload.storage.host_pool import HostPool
from pagedkv.offload.storage.io_pool import Ended, IoPool
from pagedkv.offload.storage.page_file import PageFile
from pagedkv.tracing import nvtx_range

if TYPE_CHECKING:
    from pagedkv.events import EventStream, Route
    from pagedkv.kv_store import KVStore

__all__ = ["StorageMover"]

_FEWEST_SLOTS = 2
_CLOSE_S = 5.0
"""How long a mover that is closed waits for a disk that does not answer."""
_STORE, _LOAD = nvtx_range("offload store"), nvtx_range("offload load")
_SPILL, _FETCH = nvtx_range("offload spill"), nvtx_range("offload fetch")
_GUARD = nvtx_range("offload await store")
_log = logging.getLogger("pagedkv")


class StorageMover:
    """A `Mover` between a `KVStore`, host memory and a file; made by `open`.

    One thread uses it; copies run in others, or on streams of the GPU.

    Attributes:
        page_bytes: bytes of a page.
        num_slots: slots of host memory that were granted.
        num_places: places of the file; 0 without one.
        bandwidth: bytes per second of each route.
    """

    def __init__(
        self,
        copier: BlockCopier,
        pool: HostPool,
        file: PageFile | None,
        ended: Ended,
        *,
        num_blocks: int,
        num_threads: int,
    ) -> None:
        self.page_bytes, self.num_slots = pool.page_bytes, pool.num_slots
        self.num_places = 0 if file is None else file.num_places
        self.bandwidth: Mapping[Route, int] = {}
        self._num_blocks = num_blocks
        self._copier, self._pool, self._file, self._ended = copier, pool, file, ended
        self._operations = count()
        self._io = None if file is None else IoPool(num_threads, "pagedkv-io", ended, file.close)
        self._close = weakref.finalize(self, _close, copier, self._io, os.getpid())

    @classmethod
    def open(cls, store: "KVStore", config: OffloadConfig, *, files: FileLayer | None = None) -> Self:
        """Take host memory and a file, start threads, and measure how fast they are.

        Args:
            store: the blocks; nobody may be using them. They keep what they hold.
            config: settings.
            files: system calls of the file; None for those of the operating system.

        Raises:
            ConfigError: memory or a folder that cannot be had.
            OffloadError: the disk does not answer.
        """
        num_blocks, page_bytes = len(store.layer(0)), store.block_bytes
        ended = Ended()
        pool, copier = _open_copier(store, config, ended)
        try:
            file = _open_file(config, pool, files or FileLayer())
        except BaseException:
            copier.close()
            raise
        try:
            mover = cls(copier, pool, file, ended, num_blocks=num_blocks, num_threads=config.io_threads)
        except BaseException:
            copier.close()
            raise
        try:
            mover.bandwidth = measure_bandwidth(mover, num_blocks=num_blocks, num_writers=config.io_threads)
        except BaseException:
            mover.close()
            raise
        if file is not None:
            file.forget_all()
        _log.info(
            "[Offload] %d pages of %d bytes in %s memory, %d in a file; MB/s: %s",
            pool.num_slots,
            page_bytes,
            "pinned" if pool.is_pinned else "plain",
            mover.num_places,
            ", ".join(f"{route} {speed / 1e6:.0f}" for route, speed in mover.bandwidth.items()),
        )
        return mover

    def tell(self, events: "EventStream") -> None:
        """Tell this stream from now on what steps wait for."""
        self._copier.tell(events)

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy blocks to slots (`Mover.store`).

        Raises:
            OffloadError: nothing can be trusted to be in these slots.
        """
        self._check(blocks, slots)
        with _STORE:
            self._copier.store(blocks, slots)

    def load(self, slots: Int64s, blocks: Int64s) -> int:
        """Start to copy slots to blocks."""
        self._check(blocks, slots)
        operation = next(self._operations)
        with _LOAD:
            self._copier.load(operation, slots, blocks)
        return operation

    def spill(self, slot: int, place: int) -> int:
        """Start to write a slot to a place of the file."""
        return self._submit(slot, place, is_read=False)

    def fetch(self, place: int, slot: int) -> int:
        """Start to read a place of the file, as it was last written, into a slot."""
        return self._submit(slot, place, is_read=True)

    def poll(self) -> Sequence[Moved]:
        """Copies that have ended and were not reported yet."""
        self._copier.poll()
        return self._ended.take()

    def wait(self, timeout_s: float) -> None:
        """Return when there is something to `poll`, or after so many seconds."""
        self._copier.wait(timeout_s)

    def next_ns(self) -> None:
        """None: nobody knows when a copy ends."""

    def finish(self) -> None:
        """Return when all stores have ended."""
        self._copier.finish()

    def close(self) -> None:
        """Stop, and give everything back; what has not begun is never reported.

        A disk that does not answer is waited for a few seconds. Its thread then gives back what it uses when
        the disk does answer.
        """
        self._close()

    def _check(self, blocks: Int64s, slots: Int64s) -> None:
        if len(blocks) != len(slots):
            raise InvalidRequest(f"{len(blocks)} blocks and {len(slots)} slots; a block needs one slot")
        for name, numbers, stop in (("block", blocks, self._num_blocks), ("slot", slots, self.num_slots)):
            if len(numbers) and not (numbers.min() >= 0 and numbers.max() < stop):
                raise InvalidRequest(f"{name}s {numbers.min()} to {numbers.max()}, and there are {stop}")

    def _submit(self, slot: int, place: int, *, is_read: bool) -> int:
        """Let a thread move a page between a slot and a place."""
        file, io = self._storage(slot, place)
        operation, page = next(self._operations), self._pool.memory[slot].data
        guard = self._copier.guard(slot)
        move, seen = (file.read, _FETCH) if is_read else (file.write, _SPILL)

        def job() -> None:
            with _GUARD:
                guard()
            with seen:
                move(place, page)

        io.submit(operation, job, is_read=is_read)
        return operation

    def _storage(self, slot: int, place: int) -> tuple[PageFile, IoPool]:
        if self._file is None or self._io is None:
            raise OffloadError("there is no file to write pages to: nvme_path is not set")
        if not (0 <= place < self.num_places and 0 <= slot < self.num_slots):
            raise InvalidRequest(
                f"slot {slot} of {self.num_slots}, or place {place} of {self.num_places}, is not there"
            )
        return self._file, self._io


def _open_copier(store: "KVStore", config: OffloadConfig, ended: Ended) -> tuple[HostPool, BlockCopier]:
    first = store.layer(0)
    if first.device.type != "cuda":
        from pagedkv.offload.storage.cpu import CpuCopier

        pool = HostPool.open(store.block_bytes, num_blocks=len(first), pinned_bytes=config.pinned_bytes)
        copies_beside = bool(config.io_streams) and config.deferred_events
        return pool, CpuCopier(store, pool, ended, copies_beside=copies_beside)
    from pagedkv.offload.storage.cuda import CudaCopier, pin, unpin

    pool = HostPool.open(store.block_bytes, num_blocks=len(first), pinned_bytes=config.pinned_bytes, pin=pin)
    try:
        return pool, CudaCopier(
            store, pool, ended, num_streams=config.io_streams, deferred_events=config.deferred_events
        )
    except BaseException:
        if pool.is_pinned:
            unpin(pool.memory)
        raise


def _open_file(config: OffloadConfig, pool: HostPool, files: FileLayer) -> PageFile | None:
    if config.nvme_path is None:
        return None
    if pool.num_slots < _FEWEST_SLOTS:
        raise ConfigError(
            f"{pool.num_slots} page of {pool.page_bytes} bytes fits the host memory, and a file takes "
            f"{_FEWEST_SLOTS}: one for what comes from the file, one for evicted ones; pinned_bytes must be "
            f"at least {_FEWEST_SLOTS * pool.stride}"
        )
    return PageFile(
        Path(config.nvme_path),
        page_bytes=pool.page_bytes,
        stride=pool.stride,
        max_bytes=config.nvme_bytes,
        direct_io=config.direct_io,
        files=files,
    )


def _close(copier: BlockCopier, io: IoPool | None, process: int) -> None:
    if process != os.getpid():  # forked, without the threads; what ends is the other one's
        return
    try:
        if io is not None and not io.close(_CLOSE_S):
            _log.warning("[Offload] The disk does not answer; its file stays open until it does")
    finally:
        copier.close()
