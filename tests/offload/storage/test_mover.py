"""StorageMover: what is stored comes back, whatever way it took."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="blocks are torch tensors; torch is not installed")

import torch

from pagedkv import OffloadConfig
from pagedkv.errors import CorruptPage, InvalidRequest, OffloadError
from pagedkv.kv_store import FP8_DTYPE, KVLayout
from pagedkv.offload.storage import StorageMover
from tests.offload.storage.stores import block_bytes, ended, fill_block, ids, small_store

SHAPES = [
    {},
    {"num_layers": 1, "block_size": 16, "num_kv_heads": 1, "head_dim": 64, "dtype": torch.float32},
    {"num_layers": 5, "num_kv_heads": 3, "head_dim": 24, "dtype": FP8_DTYPE},
]


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
    with_file = StorageMover.open(
        small_store(), OffloadConfig(pinned_bytes=1 << 16, nvme_path=tmp_path, nvme_bytes=1 << 16)
    )
    without = StorageMover.open(small_store(), OffloadConfig(pinned_bytes=1 << 16))
    assert set(with_file.bandwidth) == {"page_out", "page_in", "spill", "fetch"}
    assert set(without.bandwidth) == {"page_out", "page_in"}
    assert all(speed > 0 for one in (with_file, without) for speed in one.bandwidth.values())
    assert (with_file.num_slots, with_file.num_places, without.num_places) == (16, 16, 0)
    with_file.close()
    without.close()


def test_what_was_measured_with_is_no_page(tmp_path: Path):
    """A place that nobody wrote is not a page, though the file has been written to."""
    mover = StorageMover.open(
        small_store(), OffloadConfig(pinned_bytes=1 << 16, nvme_path=tmp_path, nvme_bytes=1 << 16)
    )
    mover.fetch(0, 0)
    (moved,) = ended(mover)
    assert isinstance(moved.error, CorruptPage)
    mover.close()


def test_no_such_place(tmp_path: Path):
    """Whoever counts places wrongly is told at once."""
    mover = StorageMover.open(
        small_store(), OffloadConfig(pinned_bytes=1 << 16, nvme_path=tmp_path, nvme_bytes=1 << 16)
    )
    for place in (-1, 16):
        with pytest.raises(InvalidRequest, match=f"place {place} of 16"):
            mover.spill(0, place)
    mover.close()


def test_nothing_moves_after_closing(tmp_path: Path):
    """Closing twice is closing once; a copy that is asked for afterwards is refused."""
    mover = StorageMover.open(
        small_store(), OffloadConfig(pinned_bytes=1 << 16, nvme_path=tmp_path, nvme_bytes=1 << 16)
    )
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
