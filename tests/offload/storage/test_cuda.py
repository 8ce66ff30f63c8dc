"""CudaCopier: on a GPU where there is one; elsewhere with streams that do everything at once.

The latter shows that pages go where they should, through staging buffers smaller than what is copied. It
shows nothing about the order in which a GPU does it.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

import numpy as np
import torch

from pagedkv import OffloadConfig
from pagedkv.events import EventStream, StreamAwaited
from pagedkv.kv_store import KVLayout
from pagedkv.offload.storage import StorageMover, cuda
from pagedkv.offload.storage.host_pool import HostPool
from pagedkv.offload.storage.io_pool import Ended
from tests.offload.storage.stores import block_bytes, ended, fill_block, ids, small_store

NUM_BLOCKS = 40


class Event:
    """Of something that has happened already."""

    def __init__(self, fault: str = "", *, enable_timing: bool = False) -> None:
        self.fault, self.has_time = fault, enable_timing

    def elapsed_time(self, later: "Event") -> float:
        """A millisecond and a half, if both have a time."""
        if not (self.has_time and later.has_time):
            raise RuntimeError("an event without timing")
        return 1.5

    def query(self) -> bool:
        """Yes, or the error that CUDA tells whoever asks next."""
        if self.fault:
            raise RuntimeError(self.fault)
        return True

    def synchronize(self) -> None:
        """At once."""


class Stream:
    """Does everything at once."""

    def __init__(self, *_: object) -> None:
        self.fault = ""
        self.num_waits = 0

    def record_event(self, event: Event | None = None) -> Event:
        """Of what was just done."""
        return Event(self.fault) if event is None else event

    def wait_event(self, event: Event) -> None:
        """It has happened."""
        self.num_waits += 1

    def synchronize(self) -> None:
        """At once."""


@pytest.fixture
def unpinned(monkeypatch) -> list[int]:
    """Streams that do everything at once, and the addresses that were unpinned."""
    addresses: list[int] = []
    runtime = SimpleNamespace(
        cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda address: addresses.append(address)
    )
    tensor, current = torch.tensor, Stream()
    monkeypatch.setattr(cuda, "_cuda", SimpleNamespace(Stream=Stream, Event=Event, cudart=lambda: runtime))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch, "tensor", lambda data, pin_memory=False, **more: tensor(data, **more))
    return addresses


def make_copier(monkeypatch, layout: KVLayout = KVLayout.HND, *, num_streams: int = 2, **settings: bool):
    """Blocks, and a copier whose staging buffers take seven of them."""
    store = small_store(NUM_BLOCKS, layout=layout)
    monkeypatch.setattr(cuda, "_STAGED_BYTES", 7 * store.block_bytes)
    pool = HostPool.open(store.block_bytes, num_blocks=NUM_BLOCKS, pinned_bytes=None, pin=cuda.pin)
    moved = Ended()
    copier = cuda.CudaCopier(store, pool, moved, num_streams=num_streams, **settings)
    return store, pool, moved, copier


@pytest.mark.parametrize("layout", KVLayout)
@pytest.mark.parametrize("num_streams", [0, 1, 2, 3])
def test_pages_go_where_they_should(unpinned, monkeypatch, layout, num_streams):
    """Twenty at once, in three parts; what was pinned is unpinned."""
    store, pool, moved, copier = make_copier(monkeypatch, layout, num_streams=num_streams)
    before = [fill_block(store, block, seed=block) for block in range(NUM_BLOCKS)]
    rng = np.random.default_rng(0)
    blocks, slots, targets = (rng.permutation(NUM_BLOCKS)[:20] for _ in range(3))
    copier.store(blocks, slots)
    for layer in store.layers.tensors:
        layer.zero_()
    copier.guard(int(slots[0]))()
    copier.load(5, slots, targets)
    copier.wait(1.0)
    assert [(one.operation, one.error) for one in moved.take()] == [(5, None)]
    assert [block_bytes(store, block) for block in targets] == [before[block] for block in blocks]
    copier.close()
    assert unpinned == [pool.memory.ctypes.data]


def test_a_load_that_fails_is_reported_once(unpinned, monkeypatch):
    """With what CUDA says."""
    _, _, moved, copier = make_copier(monkeypatch)
    for lane in copier._lanes:
        lane.stream.fault = "an illegal memory access was encountered"
    copier.load(3, ids([0]), ids([1]))
    copier.poll()
    copier.poll()
    (one,) = moved.take()
    assert one.operation == 3
    assert "illegal memory access" in str(one.error)
    copier.close()


@pytest.mark.parametrize(
    ("num_streams", "deferred_events", "waits_for_loads"),
    [(2, True, False), (2, False, True), (0, True, True)],
)
def test_it_tells_what_steps_wait_for(unpinned, monkeypatch, num_streams, deferred_events, waits_for_loads):
    """The stream that computes waits for loads where it is to, and says for how long if somebody asks."""
    _, _, _, copier = make_copier(monkeypatch, num_streams=num_streams, deferred_events=deferred_events)
    current = torch.cuda.current_stream(None)
    events, told = EventStream(), []
    copier.store(ids([1]), ids([1]))
    copier.tell(events)
    copier.load(1, ids([1]), ids([2]))
    copier.poll()
    events.attach(told.append)
    num_waits = current.num_waits
    copier.load(2, ids([1]), ids([3]))
    copier.poll()

    loads = [event for event in told if event.route == "page_in"]
    assert loads == ([StreamAwaited("page_in", 1_500_000)] if waits_for_loads else [])
    if num_streams:
        assert current.num_waits - num_waits == int(waits_for_loads)
    copier.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("layout", KVLayout)
def test_on_a_gpu(tmp_path, layout):
    """Blocks that are overwritten right after a store, slots that are written to a file right after it."""
    store = small_store(NUM_BLOCKS, layout=layout, device="cuda")
    config = OffloadConfig(pinned_bytes=1 << 20, nvme_path=tmp_path, nvme_bytes=1 << 20)
    mover = StorageMover.open(store, config)
    expected = [
        torch.stack([layer[block] for layer in store.layers.tensors]).random_() for block in range(20)
    ]
    for block, page in enumerate(expected):
        for layer, kv in zip(store.layers.tensors, page, strict=True):
            layer[block] = kv
    mover.store(ids(range(20)), ids(range(20)))
    for layer in store.layers.tensors:
        layer.zero_()
    for slot in range(20):
        mover.spill(slot, slot)
    assert not any(one.error for one in ended(mover, 20))
    for place in range(20):
        mover.fetch(place, 20 + place)
    assert not any(one.error for one in ended(mover, 20))
    mover.load(ids(range(20, 40)), ids(range(39, 19, -1)))
    assert not any(one.error for one in ended(mover))
    for i, page in enumerate(expected):
        assert torch.equal(torch.stack([layer[39 - i] for layer in store.layers.tensors]), page)
    mover.close()
