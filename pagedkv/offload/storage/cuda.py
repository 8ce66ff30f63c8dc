"""A GPU's blocks: gathered by a kernel, copied by streams beside the one that computes.

Blocks lie scattered over the layers, and a link wants large pieces: pages are put together in staging
buffers on the GPU, in the `HND` order whatever the layout.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from pagedkv.block_ids import Int64s
from pagedkv.errors import ConfigError, OffloadError
from pagedkv.events import EventStream, Route, StreamAwaited
from pagedkv.kernels import block_gather, block_scatter
from pagedkv.offload.mover import Moved
from pagedkv.offload.storage.host_pool import Bytes, HostPool
from pagedkv.offload.storage.io_pool import Ended

if TYPE_CHECKING:
    from pagedkv.kv_store import KVStore

__all__ = ["CudaCopier", "pin", "unpin"]

_STAGED_BYTES = 16 << 20
"""Of a staging buffer: large enough for a link, small enough not to be missed."""
_POLL_S = 0.0002
_GRANTED = 0
_NS_PER_MS = 1_000_000
_LEAST_WAIT_NS = 20_000
"""What two events that follow each other may be apart."""
_cuda: Any = torch.cuda  # half of it has no types
_Stream: TypeAlias = Any
_Event: TypeAlias = Any


def pin(address: int, num_bytes: int) -> bool:
    """Let GPUs copy from and to memory of the host by themselves; whether that was granted."""
    if int(_cuda.cudart().cudaHostRegister(address, num_bytes, 0)) == _GRANTED:
        return True
    try:  # CUDA keeps the error for whoever asks next; that is this call, and not a step of the engine
        torch.ones(1, device="cuda").add_(1)
    except RuntimeError:
        return False
    return False


def unpin(memory: Bytes) -> None:
    """Take back what `pin` granted."""
    _cuda.cudart().cudaHostUnregister(memory.ctypes.data)


class _Lane:
    """A staging buffer on the GPU, and the stream that copies from or to it."""

    def __init__(self, store: "KVStore", num_pages: int, stream: _Stream) -> None:
        layer = store.layer(0)
        shape = (num_pages, len(store.layers), *layer.shape[1:])
        self.stream = stream
        self.pages = torch.empty(shape, dtype=layer.dtype, device=layer.device)
        self.rows = self.pages.view(num_pages, -1).view(torch.uint8)
        self.last = stream.record_event()


class CudaCopier:
    """A `BlockCopier` for the blocks of a GPU.

    A store gathers on the current stream, so that what the device does later may overwrite the blocks, and
    copies to the host on another; two staging buffers take turns. A load goes the other way, on side streams
    alone. Stores have the first of these, loads the others, if there are others. Nothing here waits for the
    GPU, but for `finish` and `close`. The current stream waits for a store if both staging buffers are in
    use, and for loads without deferred events, or without side streams.

    Args:
        store: the blocks.
        pool: the slots.
        ended: where loads go that have ended.
        num_streams: side streams; 0 for copies on the current one.
        deferred_events: without, what the device does later waits for loads.

    Raises:
        ConfigError: the GPU has no room for the staging buffers.
    """

    def __init__(
        self,
        store: "KVStore",
        pool: HostPool,
        ended: Ended,
        *,
        num_streams: int,
        deferred_events: bool = True,
    ) -> None:
        self._layers, self._device, self._ended = store.layers, store.layer(0).device, ended
        self._pool = pool
        self._host = torch.from_numpy(pool.memory)[:, : pool.page_bytes]
        self._num_staged = max(1, _STAGED_BYTES // pool.page_bytes)
        streams = [_cuda.Stream(self._device) for _ in range(num_streams)]
        streams = streams or [torch.cuda.current_stream(self._device)]
        try:
            outward = [_Lane(store, self._num_staged, streams[0]) for _ in range(2)]
            inward = [_Lane(store, self._num_staged, stream) for stream in streams[1:] or streams]
        except torch.OutOfMemoryError as error:
            num_bytes = self._num_staged * pool.page_bytes
            raise ConfigError(
                f"{max(1, num_streams - 1) + 2} staging buffers of {num_bytes} bytes do not fit "
                f"on {self._device}: give it fewer blocks, or use fewer io_streams"
            ) from error
        self._lanes = [*outward, *inward]
        self._outward, self._inward = cycle(outward), cycle(inward)
        self._stored: dict[int, _Event] = {}
        self._loading: dict[int, list[_Event]] = {}
        self._has_streams = num_streams > 0
        self._awaits_loads = not num_streams or not deferred_events
        self._events: EventStream | None = None
        self._waits: deque[tuple[Route, _Event, _Event]] = deque()

    def tell(self, events: EventStream) -> None:
        """Tell this stream what steps wait for, at the `poll` behind it."""
        self._events = events

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy blocks to slots."""
        try:
            current = torch.cuda.current_stream(self._device)
            for part_blocks, part_slots in self._parts(blocks, slots):
                self._store_part(current, next(self._outward), part_blocks, part_slots)
        except RuntimeError as error:
            raise OffloadError(f"{len(blocks)} blocks were not copied to the host: {error}") from error

    def load(self, operation: int, slots: Int64s, blocks: Int64s) -> None:
        """Start to copy slots to blocks."""
        try:
            current = torch.cuda.current_stream(self._device)
            ready = self._mark(current)
            self._loading[operation] = [
                self._load_part(ready, next(self._inward), part_blocks, part_slots)
                for part_blocks, part_slots in self._parts(blocks, slots)
            ]
            if self._awaits_loads:
                for event in self._loading[operation]:
                    current.wait_event(event)
                self._noted("page_in", ready, self._mark(current))
        except RuntimeError as error:
            with suppress(RuntimeError):
                self.finish()  # parts that were begun write no block after this was reported
            self._ended.add(Moved(operation, _failure(error)))

    def guard(self, slot: int) -> Callable[[], None]:
        """What a thread calls before it reads or writes a slot: returns when no store writes it any more."""
        event = self._stored.get(slot)
        return _nothing if event is None else event.synchronize

    def poll(self) -> None:
        """Look which loads have ended, and tell for how long steps have waited."""
        self._tell_waits()
        for operation, events in list(self._loading.items()):
            try:
                if not all(event.query() for event in events):
                    continue
                error = None
            except RuntimeError as failure:
                error = _failure(failure)
            del self._loading[operation]
            self._ended.add(Moved(operation, error))

    def wait(self, timeout_s: float) -> None:
        """Return when a copy may have ended, or after so many seconds."""
        deadline = time.monotonic() + timeout_s
        while self._loading and (left := deadline - time.monotonic()) > 0:
            self.poll()
            if self._ended.wait(min(_POLL_S, left)):
                return
        self._ended.wait(max(0.0, deadline - time.monotonic()))

    def finish(self) -> None:
        """Return when all copies have ended."""
        for lane in self._lanes:
            lane.stream.synchronize()

    def close(self) -> None:
        """Let all copies end, and unpin the slots."""
        try:
            self.finish()
        finally:
            if self._pool.is_pinned:
                unpin(self._pool.memory)

    def _parts(self, blocks: Int64s, slots: Int64s) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """Blocks on the GPU, by way of pinned memory, and slots: as many as a staging buffer takes."""
        for first in range(0, len(blocks), self._num_staged):
            part = slice(first, first + self._num_staged)
            yield torch.tensor(blocks[part].tolist(), pin_memory=True), slots[part].tolist()

    def _store_part(self, current: _Stream, lane: _Lane, blocks: torch.Tensor, slots: list[int]) -> None:
        before = self._mark(current)
        current.wait_event(lane.last)
        self._noted("page_out", before, self._mark(current))
        block_gather(self._layers, blocks.to(self._device, non_blocking=True), lane.pages[: len(slots)])
        gathered = self._mark(current)
        with torch.cuda.stream(lane.stream):
            lane.stream.wait_event(gathered)
            self._await_stores(lane.stream, slots)
            for i, slot in enumerate(slots):
                self._host[slot].copy_(lane.rows[i], non_blocking=True)
            lane.last = self._mark(lane.stream)
        if not self._has_streams:
            self._noted("page_out", gathered, lane.last)
        self._stored.update(dict.fromkeys(slots, lane.last))

    def _load_part(self, ready: _Event, lane: _Lane, blocks: torch.Tensor, slots: list[int]) -> _Event:
        with torch.cuda.stream(lane.stream):
            lane.stream.wait_event(ready)
            self._await_stores(lane.stream, slots)
            for i, slot in enumerate(slots):
                lane.rows[i].copy_(self._host[slot], non_blocking=True)
            block_scatter(lane.pages[: len(slots)], self._layers, blocks.to(self._device, non_blocking=True))
            return lane.stream.record_event()

    def _mark(self, stream: _Stream) -> _Event:
        """An event at this place of a stream; with its time, if somebody wants to know of waits."""
        if self._events is None or self._events.emit is None:
            return stream.record_event()
        return stream.record_event(_cuda.Event(enable_timing=True))

    def _noted(self, route: Route, before: _Event, after: _Event) -> None:
        if self._events is not None and self._events.emit is not None:
            self._waits.append((route, before, after))

    def _tell_waits(self) -> None:
        """Tell of waits that are over: between the two events the stream did nothing else."""
        while self._waits and self._waits[0][2].query():
            route, before, after = self._waits.popleft()
            wait_ns = round(before.elapsed_time(after) * _NS_PER_MS)
            if (
                wait_ns > _LEAST_WAIT_NS
                and self._events is not None
                and (emit := self._events.emit) is not None
            ):
                emit(StreamAwaited(route, wait_ns))

    def _await_stores(self, stream: _Stream, slots: list[int]) -> None:
        for event in {self._stored[slot] for slot in slots if slot in self._stored}:
            stream.wait_event(event)


def _nothing() -> None:
    pass


def _failure(error: RuntimeError) -> OffloadError:
    return OffloadError(f"pages were not copied to the device: {error}")
