"""StorageMover: what is stored comes back, whatever way it took."""

import gc
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

import torch

from pagedkv import OffloadConfig
from pagedkv.errors import ConfigError, CorruptPage, InvalidRequest, OffloadError
from pagedkv.events import EventStream, StreamAwaited
from pagedkv.kv_store import FP8_DTYPE, KVLayout
from pagedkv.offload.storage import StorageMover, bandwidth
from pagedkv.offload.storage import mover as mover_module
from tests.offload.storage.faulty_files import FaultyFiles, FileFault
from tests.offload.storage.stores import block_bytes, ended, fill_block, ids, small_store

SHAPES = [
    {},
    {"num_layers": 1, "block_size": 16, "num_kv_heads": 1, "head_dim": 64, "dtype": torch.float32},
    {"num_layers": 5, "num_kv_heads": 3, "head_dim": 24, "dtype": FP8_DTYPE},
]


def with_file(tmp_path: Path) -> OffloadConfig:
    """Sixteen slots and sixteen places."""
    return OffloadConfig(pinned_bytes=1 << 16, nvme_path=tmp_path, nvme_bytes=1 << 16)


def num_open() -> int:
    """Files that this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_needs_two_slots(tmp_path: Path) -> None:
    """With one, which is for what comes back, nothing evicted could be kept: that is refused, and told."""
    store = small_store()
    config = OffloadConfig(pinned_bytes=4096, nvme_path=tmp_path, nvme_bytes=1 << 20)
    before = num_open()
    with pytest.raises(ConfigError, match="at least 8192"):
        StorageMover.open(store, config)
    assert num_open() == before
    StorageMover.open(store, OffloadConfig(pinned_bytes=8192, nvme_path=tmp_path, nvme_bytes=1 << 20)).close()


@pytest.mark.parametrize("layout", KVLayout)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pages_come_back(tmp_path: Path, shape, layout):
    """Device to host to file to host to device, several blocks at once, into other blocks than before."""
    store = small_store(**shape, layout=layout)
    before = [fill_block(store, block, seed=block) for block in range(8)]
    config = OffloadConfig(pinned_bytes=1 << 20, nvme_path=tmp_path, nvme_bytes=1 << 20)
    mover = StorageMover.open(store, config)
    assert [block_bytes(store, block) for block in range(8)] == before
    mover.store(ids([5, 0, 2]), ids([1, 7, 0]))
    for layer in store.layers.tensors:
        layer.zero_()
    for slot, place in ((1, 4), (7, 0), (0, 2)):
        mover.spill(slot, place)
    assert [one.error for one in ended(mover, 3)] == [None] * 3
    mover.store(ids([0, 1, 2]), ids([1, 7, 0]))  # other bytes
    for place, slot in ((4, 3), (0, 4), (2, 5)):
        mover.fetch(place, slot)
    assert [one.error for one in ended(mover, 3)] == [None] * 3
    operation = mover.load(ids([3, 4, 5]), ids([6, 1, 3]))
    assert [(one.operation, one.error) for one in ended(mover)] == [(operation, None)]
    assert [block_bytes(store, block) for block in (6, 1, 3)] == [before[5], before[0], before[2]]
    assert not any(map(any, (block_bytes(store, block) for block in (0, 2, 4, 5, 7))))
    mover.close()
    assert not list(tmp_path.iterdir())


def test_bandwidths_are_of_the_routes_there_are(tmp_path: Path):
    """Without a file there are two routes."""
    both = StorageMover.open(small_store(), with_file(tmp_path))
    without = StorageMover.open(small_store(), OffloadConfig(pinned_bytes=1 << 16))
    assert set(both.bandwidth) == {"page_out", "page_in", "spill", "fetch"}
    assert set(without.bandwidth) == {"page_out", "page_in"}
    assert all(speed > 0 for one in (both, without) for speed in one.bandwidth.values())
    assert (both.num_slots, both.num_places, without.num_places) == (16, 16, 0)
    both.close()
    without.close()


def test_the_shortest_measurement_is_one(quick_start, tmp_path: Path):
    """However little time there is, each route has a bandwidth that can be divided by."""
    mover = StorageMover.open(small_store(), with_file(tmp_path))
    assert min(mover.bandwidth.values()) > 0
    mover.close()


def test_what_was_measured_with_is_no_page(tmp_path: Path):
    """A place that nobody wrote is not a page, though the file has been written to."""
    mover = StorageMover.open(small_store(), with_file(tmp_path))
    mover.fetch(0, 0)
    (moved,) = ended(mover)
    assert isinstance(moved.error, CorruptPage)
    mover.close()


def test_no_such_place(tmp_path: Path):
    """Whoever counts places wrongly is told at once."""
    mover = StorageMover.open(small_store(), with_file(tmp_path))
    for place in (-1, 16):
        with pytest.raises(InvalidRequest, match=f"place {place} of 16"):
            mover.spill(0, place)
    mover.close()


def test_nothing_moves_after_closing(tmp_path: Path):
    """Closing twice is closing once; a copy that is asked for afterwards is refused."""
    mover = StorageMover.open(small_store(), with_file(tmp_path))
    mover.close()
    mover.close()
    for call in (
        lambda: mover.load(ids([0]), ids([0])),
        lambda: mover.spill(0, 0),
        lambda: mover.fetch(0, 0),
    ):
        with pytest.raises(OffloadError, match="closed"):
            call()
    assert not mover.poll()


def test_a_slow_disk_holds_nobody_up(tmp_path: Path, quick_start):
    """Copies between device and host go on, and the mover closes; the disk's thread ends when it can."""
    store, files = small_store(), FaultyFiles(slow_s=60.0)
    before = fill_block(store, 0, seed=1)
    gc.collect()  # what other tests have forgotten closes nothing in between
    fds = num_open()
    mover = StorageMover.open(store, with_file(tmp_path), files=files)
    files.rates = {FileFault.SLOW: 1.0}
    for slot in range(4):
        mover.spill(slot, slot)
    mover.store(ids([0]), ids([5]))
    operation = mover.load(ids([5]), ids([3]))
    assert [(one.operation, one.error) for one in ended(mover)] == [(operation, None)]
    assert block_bytes(store, 3) == before
    for _ in range(2000):
        if files.counts[FileFault.SLOW] == 4:  # each thread has taken up its write, and hangs in it
            break
        time.sleep(0.01)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("pagedkv-io")]
    with patch.object(mover_module, "_CLOSE_S", 0.01):
        mover.close()
    assert threads
    assert all(thread.is_alive() for thread in threads)
    files.heal()
    for thread in threads:
        thread.join(20.0)
    assert not any(thread.is_alive() for thread in threads)
    assert num_open() == fds


def test_a_disk_that_does_not_answer_is_found_at_the_start(tmp_path: Path, quick_start, monkeypatch):
    """It is refused; nothing waits for it any longer."""
    monkeypatch.setattr(bandwidth, "_MOST_S", 0.0)
    monkeypatch.setattr(mover_module, "_CLOSE_S", 0.01)
    files = FaultyFiles(rates={FileFault.SLOW: 1.0}, slow_s=60.0)
    with pytest.raises(OffloadError, match="does not answer"):
        StorageMover.open(small_store(), with_file(tmp_path), files=files)
    files.heal()


@pytest.mark.parametrize("kind", [FileFault.NO_SPACE, FileFault.IO_ERROR, FileFault.DENIED])
def test_a_disk_that_fails_at_the_start(tmp_path: Path, quick_start, caplog, kind):
    """A line says so, a low bandwidth is assumed, and later it may work."""
    store, files = small_store(), FaultyFiles(rates={kind: 1.0})
    mover = StorageMover.open(store, with_file(tmp_path), files=files)
    assert mover.bandwidth["spill"] == mover.bandwidth["fetch"] == 100_000_000
    assert "cannot be measured" in caplog.text
    files.heal()
    mover.spill(0, 0)
    assert [one.error for one in ended(mover)] == [None]
    mover.fetch(0, 1)
    assert [one.error for one in ended(mover)] == [None]
    mover.close()


def test_a_mover_that_is_forgotten_gives_everything_back(tmp_path: Path, quick_start):
    """Threads end and the file is closed, though nobody closed it."""
    gc.collect()
    fds, num_threads = num_open(), threading.active_count()
    mover = StorageMover.open(small_store(), with_file(tmp_path))
    assert (num_open(), threading.active_count()) == (
        fds + 1,
        num_threads + 1 + with_file(tmp_path).io_threads,
    )
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("pagedkv-")]
    del mover
    gc.collect()
    for thread in threads:
        thread.join(20.0)
    assert (num_open(), threading.active_count()) == (fds, num_threads)


def test_threads_that_cannot_be_started(tmp_path: Path, quick_start):
    """The mover is refused, and the file and the threads that there were are given back."""
    fds, num_threads = num_open(), threading.active_count()
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == "pagedkv-io-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    with patch.object(threading.Thread, "start", limited), pytest.raises(ConfigError, match="2 of 4 threads"):
        StorageMover.open(small_store(), with_file(tmp_path))
    for thread in threading.enumerate():
        if thread.name.startswith("pagedkv-"):
            thread.join(20.0)
    assert (num_open(), threading.active_count()) == (fds, num_threads)


def test_a_process_that_is_forked(tmp_path: Path):
    """It has no threads: it is told so when it copies, ends without waiting for any, and disturbs nobody."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.offload.storage.forked_worker", str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=60.0,  # threads that it does not have would be waited for a little longer
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert json.loads(run.stdout) == {"in the child": ["OffloadError"] * 3, "status": 0, "errors": [None]}


def test_ids_that_are_not_there(tmp_path: Path, quick_start):
    """Refused before anything is copied, with what there is."""
    store = small_store()
    before = fill_block(store, 7, seed=1)
    mover = StorageMover.open(store, OffloadConfig(pinned_bytes=1 << 16))
    for blocks, slots in (([-1], [0]), ([8], [0]), ([0], [-1]), ([0], [16])):
        for call in (
            lambda blocks=blocks, slots=slots: mover.store(ids(blocks), ids(slots)),
            lambda blocks=blocks, slots=slots: mover.load(ids(slots), ids(blocks)),
        ):
            with pytest.raises(InvalidRequest, match=r"and there are (8|16)"):
                call()
    with pytest.raises(InvalidRequest, match="2 blocks and 1 slots"):
        mover.store(ids([0, 1]), ids([0]))
    with pytest.raises(OffloadError, match="nvme_path is not set"):
        mover.spill(0, 0)
    assert block_bytes(store, 7) == before
    mover.close()


def test_what_cannot_be_had_is_refused_at_the_start(tmp_path: Path, quick_start):
    """Too little and too much memory, and no folder; nothing is left running."""
    num_threads = threading.active_count()
    refused = (
        (OffloadConfig(pinned_bytes=100), "holds no page"),
        (OffloadConfig(pinned_bytes=2**60), "ask for less"),
        (
            OffloadConfig(pinned_bytes=1 << 16, nvme_path=tmp_path / "none", nvme_bytes=1 << 16),
            "cannot be used",
        ),
    )
    for config, words in refused:
        with pytest.raises(ConfigError, match=words):
            StorageMover.open(small_store(), config)
    for _ in range(200):
        if threading.active_count() == num_threads:
            break
        time.sleep(0.01)
    assert threading.active_count() == num_threads


def test_a_load_goes_where_it_was_sent(quick_start):
    """The arrays that say where belong to whoever calls, who may change them before the copy begins."""
    store = small_store()
    before = fill_block(store, 0, seed=1)
    mover = StorageMover.open(store, OffloadConfig(pinned_bytes=1 << 16))
    mover.store(ids([0]), ids([2]))
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go.wait(20.0)

    mover._copier._thread.submit(-1, hold, is_read=True)
    assert begun.wait(20.0)
    slots, blocks = ids([2]), ids([5])
    mover.load(slots, blocks)
    slots[0], blocks[0] = 3, 6
    go.set()
    assert [one.error for one in ended(mover, 2)] == [None, None]
    assert block_bytes(store, 5) == before
    assert not any(block_bytes(store, 6))
    mover.close()


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [({}, False), ({"deferred_events": False}, True), ({"io_streams": 0}, True)],
    ids=str,
)
def test_who_waits_for_copies_in_memory(settings, is_told):
    """What goes out is always copied by who calls; what comes back by a thread, or so, too."""
    store = small_store()
    before = fill_block(store, 3, seed=3)
    mover = StorageMover.open(store, OffloadConfig(pinned_bytes=1 << 16, **settings))
    told: list[StreamAwaited] = []
    events = EventStream()
    mover.tell(events)
    mover.store(ids([3]), ids([0]))
    events.attach(told.append)
    mover.store(ids([3]), ids([1]))
    operation = mover.load(ids([1]), ids([5]))
    is_there = [moved.operation for moved in mover.poll()] == [operation]
    if not is_there:
        ended(mover)
    assert block_bytes(store, 5) == before
    assert [event.route for event in told] == ["page_out", *(["page_in"] if is_told else [])]
    assert all(event.wait_ns > 0 for event in told)
    assert is_there or not is_told
    mover.close()
