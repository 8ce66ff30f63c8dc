"""Small KV stores, and the bytes of their blocks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pagedkv.kv_store import KVLayout, KVStore
from pagedkv.offload.mover import Moved
from pagedkv.offload.storage import StorageMover

__all__ = ["block_bytes", "ended", "fill_block", "ids", "small_store"]


def small_store(num_blocks: int = 8, **changes: Any) -> KVStore:
    """Two layers, two heads; a page is 1 KiB of bf16."""
    shape: dict[str, Any] = {
        "num_layers": 2,
        "block_size": 8,
        "num_kv_heads": 2,
        "head_dim": 8,
        "dtype": torch.bfloat16,
        "layout": KVLayout.SPLIT_NHD,
    }
    return KVStore(num_blocks=num_blocks, **(shape | changes))


def fill_block(store: KVStore, block: int, seed: int) -> bytes:
    """Write a block as a kernel does; its bytes."""
    rng = np.random.default_rng(seed)
    for layer in store.layers.tensors:
        raw = rng.integers(0, 256, layer[block].numel() * layer.dtype.itemsize, dtype=np.uint8)
        layer[block] = torch.from_numpy(raw).view(layer.dtype).view(layer.shape[1:])
    return block_bytes(store, block)


def block_bytes(store: KVStore, block: int) -> bytes:
    """A block's bytes in all layers, whatever the layout."""
    return b"".join(
        layer[block].contiguous().view(torch.uint8).numpy().tobytes() for layer in store.layers.tensors
    )


def ids(numbers: Iterable[int]) -> npt.NDArray[np.int64]:
    """Block, slot or place ids, as movers take them."""
    return np.fromiter(numbers, np.int64)


def ended(mover: StorageMover, num_operations: int = 1, timeout_s: float = 20.0) -> list[Moved]:
    """Wait for so many copies to end; a deadline, against hangs."""
    found: list[Moved] = []
    for _ in range(max(1, int(timeout_s * 10))):
        found += mover.poll()
        if len(found) >= num_operations:
            return found
        mover.wait(0.1)
    raise AssertionError(f"{len(found)} of {num_operations} copies ended in {timeout_s} s: {found}")
