"""Pools of random bytes between red zones, and what is called with them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from pagedkv.kernels.dispatch import Backend, using
from pagedkv.kv_store import FP8_DTYPE, KVLayers, KVLayout
from pytest_pagedkv.conformance.kernels.buffers import Guarded, as_bytes, check_zones

__all__ = ["BACKENDS", "DTYPES", "SHAPES", "Pool", "calling", "device_of", "needs_gpu", "pool_of"]

BACKENDS: tuple[Backend, ...] = ("cpu", "gpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, FP8_DTYPE)
SHAPES = ((2, 8, 64), (1, 16, 80), (3, 32, 96), (1, 64, 128), (1, 256, 256))
"""num_kv_heads, block_size, head_dim."""

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def device_of(backend: Backend) -> str:
    """Where a backend's tensors are: the interpreter, too, takes them on the CPU."""
    return "cuda" if backend == "gpu" and torch.cuda.is_available() else "cpu"


@contextmanager
def calling(backend: Backend) -> Iterator[None]:
    """Public functions use this backend. Overflow and NaN are meant, whatever numpy thinks of them."""
    with using(backend), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        yield


class Pool:
    """Layers of random bytes, among them NaN of every kind, between red zones of NaN.

    Args:
        shape: `(num_blocks, 2, num_kv_heads, block_size, head_dim)`.
        dtype: what is stored.
        layout: how a layer lies in memory.
        device: where.
        num_layers: layers.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        layout: KVLayout,
        device: str,
        *,
        num_layers: int = 1,
    ) -> None:
        self.guarded = [Guarded(shape, dtype, device, order=layout.value) for _ in range(num_layers)]
        for layer in self.guarded:
            fill_with_bytes(layer.tensor)
            layer.keep()
        self.layers = KVLayers([layer.tensor for layer in self.guarded])

    @property
    def kv(self) -> torch.Tensor:
        """The first layer."""
        return self.layers.tensors[0]

    def copies(self) -> KVLayers:
        """Layers with the same content, for a reference to work on."""
        return KVLayers([kv.clone() for kv in self.layers.tensors])

    def check(self, expected: KVLayers) -> None:
        """Check every byte, and that the red zones are as they were."""
        for index, layer in enumerate(self.guarded):
            differs = (as_bytes(layer.tensor) != as_bytes(expected.tensors[index])).any(-1)
            places = differs.nonzero().tolist()
            assert places == [], f"layer {index}, [block, part, head, offset]: {places[:3]}"
            check_zones({f"layer {index}": layer})


def fill_with_bytes(tensor: torch.Tensor) -> None:
    """Fill a tensor with random bytes."""
    generator = torch.Generator().manual_seed(tensor.numel())
    in_bytes = as_bytes(tensor)
    in_bytes.copy_(torch.randint(0, 256, in_bytes.shape, dtype=torch.uint8, generator=generator))


def pool_of(
    backend: Backend,
    *,
    num_blocks: int = 5,
    shape: tuple[int, int, int] = (2, 16, 64),
    dtype: torch.dtype = torch.float16,
    layout: KVLayout = KVLayout.HND,
    num_layers: int = 1,
) -> Pool:
    """A pool for a backend; `shape` is num_kv_heads, block_size, head_dim."""
    return Pool((num_blocks, 2, *shape), dtype, layout, device_of(backend), num_layers=num_layers)
