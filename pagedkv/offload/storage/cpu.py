"""A CPU's blocks: copies in memory."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.events import EventStream, Route, StreamAwaited
from pagedkv.offload.mover import Moved
from pagedkv.offload.storage.host_pool import Bytes, HostPool
from pagedkv.offload.storage.io_pool import Ended, IoPool

if TYPE_CHECKING:
    from pagedkv.kv_store import KVStore

__all__ = ["CpuCopier", "pages_of"]

_CLOSE_S = 60.0


def pages_of(store: "KVStore") -> Bytes:
    """The memory of a CPU's blocks.

    Returns:
        `[num_blocks, num_layers, num_runs, run_bytes]` (uint8) a view: a block is one run in each layer, or
        two, its keys and its values.
    """
    layers = store.layers.tensors
    first = layers[0]
    item = first.dtype.itemsize
    block, part = first.stride(0) * item, first.stride(1) * item
    part_bytes = item * first[0, 0].numel()
    is_one_run = part == part_bytes
    runs, run_bytes = (1, 2 * part_bytes) if is_one_run else (2, part_bytes)
    apart = layers[1].data_ptr() - first.data_ptr() if len(layers) > 1 else 0
    memory = _memory_of(store)
    return np.lib.stride_tricks.as_strided(
        memory,
        (len(first), len(layers), runs, run_bytes),
        (block, apart, part, 1),
    )


def _memory_of(store: "KVStore") -> Bytes:
    """The allocation that all layers lie in, from the first element of the first layer on."""
    import torch

    first = store.layer(0)
    memory: Bytes = torch.empty(0, dtype=torch.uint8).set_(first.untyped_storage()).numpy()
    return memory[first.data_ptr() - first.untyped_storage().data_ptr() :]


class CpuCopier:
    """A `BlockCopier` for blocks in host memory.

    A page has the order of the device's layout, so that it is copied run by run. Stores are done by who
    calls; loads by a thread, beside the computation, which leaves Python's lock while it computes.

    Args:
        store: the blocks.
        pool: the slots.
        ended: where loads go that have ended.
        copies_beside: whether loads have a thread; without, they too are done by who calls.
    """

    def __init__(self, store: "KVStore", pool: HostPool, ended: Ended, *, copies_beside: bool = True) -> None:
        self._blocks = pages_of(store)
        self._slots = pool.memory[:, : pool.page_bytes].reshape(-1, *self._blocks.shape[1:])
        self._ended = ended
        self._thread = IoPool(1, "pagedkv-load", ended) if copies_beside else None
        self._events: EventStream | None = None

    def tell(self, events: EventStream) -> None:
        """Tell this stream what steps wait for: all that is done by who calls."""
        self._events = events

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy blocks to slots."""
        began_ns = time.perf_counter_ns()
        _copy(self._blocks, blocks.tolist(), self._slots, slots.tolist())
        self._waited("page_out", began_ns)

    def load(self, operation: int, slots: Int64s, blocks: Int64s) -> None:
        """Start to copy slots to blocks."""
        source, target = self._slots, self._blocks
        sources, targets = slots.tolist(), blocks.tolist()  # now: the arrays are the caller's
        if self._thread is not None:
            self._thread.submit(operation, lambda: _copy(source, sources, target, targets), is_read=True)
            return
        began_ns = time.perf_counter_ns()
        _copy(source, sources, target, targets)
        self._ended.add(Moved(operation))
        self._waited("page_in", began_ns)

    def guard(self, slot: int) -> Callable[[], None]:  # noqa: ARG002
        """Nothing: a store has ended when its call returns."""
        return _nothing

    def poll(self) -> None:
        """Nothing: loads tell."""

    def wait(self, timeout_s: float) -> None:
        """Return when a copy has ended."""
        self._ended.wait(timeout_s)

    def finish(self) -> None:
        """Nothing: whoever measures a load polls it."""

    def close(self) -> None:
        """Let the load that is under way end."""
        if self._thread is not None:
            self._thread.close(_CLOSE_S)

    def _waited(self, route: Route, since_ns: int) -> None:
        if self._events is not None and (emit := self._events.emit) is not None:
            emit(StreamAwaited(route, time.perf_counter_ns() - since_ns))


def _nothing() -> None:
    pass


def _copy(source: Bytes, sources: list[int], target: Bytes, targets: list[int]) -> None:
    for i, j in zip(sources, targets, strict=True):
        np.copyto(target[j], source[i])
