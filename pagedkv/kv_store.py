"""The memory that holds keys and values: one allocation for all layers, in one of four layouts."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
import torch

from pagedkv.errors import ConfigError, KernelInputError

__all__ = ["FP8_DTYPE", "VECTOR_BYTES", "KVLayers", "KVLayout", "KVScales", "KVStore"]

FP8_DTYPE = torch.float8_e4m3fn
"""What keys and values are stored in with 8 bits."""

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, FP8_DTYPE)
VECTOR_BYTES = 16
"""What kernels access at once, at multiples of it."""

_ALIGNMENT = 256  # bytes


class KVLayout(enum.Enum):
    """How a layer's blocks lie in memory: the axes of its view, outermost first.

    The view is always `[num_blocks, 2, num_kv_heads, block_size, head_dim]`; only the strides differ.
    """

    HND = (0, 1, 2, 3, 4)
    """Keys and values of a block side by side, head by head: a block is one contiguous run."""
    NHD = (0, 1, 3, 2, 4)
    """Keys and values of a block side by side, token by token: a block is one contiguous run."""
    SPLIT_HND = (1, 0, 2, 3, 4)
    """All keys before all values, head by head: a block is two runs."""
    SPLIT_NHD = (1, 0, 3, 2, 4)
    """All keys before all values, token by token: a block is two runs."""

    @classmethod
    def fastest_on(cls, device: torch.device | str) -> "KVLayout":
        """The layout that the kernels of a device are quickest with.

        A GPU copies whole blocks and reads the rows of a head one after another; a CPU gathers whole pages of
        keys, then of values.
        """
        return cls.SPLIT_NHD if torch.device(device).type == "cpu" else cls.HND


@dataclass(frozen=True, slots=True)
class KVScales:
    """What stored numbers are multiplied with to give keys and values: 1 unless they are stored in 8 bits."""

    k: float = 1.0
    v: float = 1.0

    def __post_init__(self) -> None:
        for name, scale in (("k", self.k), ("v", self.v)):
            if not 0 < scale < float("inf"):
                raise ConfigError(f"the scale of {name} is {scale!r}; it must be positive and finite")


class KVLayers:
    """Layers of one shape, and where they begin, for kernels that touch all of them in one launch.

    Args:
        tensors: of each layer, the view `[num_blocks, 2, num_kv_heads, block_size, head_dim]`; all of one
            shape, dtype, device and strides, and at multiples of 16 bytes.

    Attributes:
        tensors: those views.
        pointers: `[num_layers]` (int64, on their device) addresses of their first elements.

    Raises:
        KernelInputError: there is no layer, two differ, or one is not aligned.
    """

    __slots__ = ("pointers", "tensors")

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        if not tensors:
            raise KernelInputError("no layers were given; there must be at least one")
        first = tensors[0]
        if first.ndim != 5 or first.shape[1] != 2:
            raise KernelInputError(
                f"a layer has the shape {list(first.shape)}; it must be "
                "[num_blocks, 2, num_kv_heads, block_size, head_dim]"
            )
        for i, tensor in enumerate(tensors):
            if _form(tensor) != _form(first):
                raise KernelInputError(
                    f"layer {i} is {_form(tensor)} and layer 0 is {_form(first)} (shape, strides, dtype, "
                    "device); layers of one store are alike"
                )
            if tensor.data_ptr() % VECTOR_BYTES:
                raise KernelInputError(
                    f"layer {i} begins at an address that is no multiple of {VECTOR_BYTES} bytes, which "
                    "kernels access at once: allocate it aligned"
                )
        self.tensors = tuple(tensors)
        self.pointers = torch.tensor([t.data_ptr() for t in tensors], dtype=torch.int64, device=first.device)

    def __len__(self) -> int:
        return len(self.tensors)


def _form(tensor: torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...], torch.dtype, torch.device]:
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device


class KVStore:
    """Keys and values of all blocks of all layers.

    Args:
        num_layers: layers of the model that keep KV.
        num_blocks: blocks in the pool; a block has a slot for `block_size` tokens in every layer.
        block_size: tokens in a block.
        num_kv_heads: KV heads of a layer.
        head_dim: elements of a head.
        dtype: float32, float16, bfloat16, or `FP8_DTYPE`.
        layout: how a layer lies in memory; None for the quickest on the device.
        device: where.
        scales: of each layer, what stored numbers are multiplied with; None for 1. Only for `FP8_DTYPE`.

    Attributes:
        layers: views of the layers, zeros at first. Their bases are 256-byte aligned.
        scales: of each layer.
        layout: the layout.

    Raises:
        ConfigError: a number that is not positive, a dtype that KV cannot be stored in, or scales that do not
            fit.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        layout: KVLayout | None = None,
        device: torch.device | str = "cpu",
        scales: Sequence[KVScales] | None = None,
    ) -> None:
        shape = (num_blocks, 2, num_kv_heads, block_size, head_dim)
        names = ("num_layers", "num_blocks", "num_kv_heads", "block_size", "head_dim")
        for name, number in zip(names, (num_layers, num_blocks, *shape[2:]), strict=True):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigError(f"{name} is {number!r}; it must be a positive int")
        if dtype not in _DTYPES:
            raise ConfigError(f"dtype is {dtype}; KV is stored in one of {', '.join(map(str, _DTYPES))}")
        self.scales = _settled_scales(scales, num_layers, dtype)
        self.layout = layout or KVLayout.fastest_on(device)
        self.layers = KVLayers(_allocate(num_layers, shape, dtype, self.layout, torch.device(device)))

    @classmethod
    def like(cls, other: "KVStore", *, num_blocks: int, device: torch.device | str) -> Self:
        """A store for the same model, with another number of blocks, or elsewhere."""
        layer = other.layer(0)
        return cls(
            num_layers=len(other.layers),
            num_blocks=num_blocks,
            block_size=layer.shape[3],
            num_kv_heads=layer.shape[2],
            head_dim=layer.shape[4],
            dtype=layer.dtype,
            layout=other.layout,
            device=device,
            scales=other.scales if layer.dtype == FP8_DTYPE else None,
        )

    def layer(self, index: int) -> torch.Tensor:
        """A layer's view `[num_blocks, 2, num_kv_heads, block_size, head_dim]`; `[:, 0]` are keys."""
        return self.layers.tensors[index]

    @property
    def block_bytes(self) -> int:
        """What a block takes in all layers, in bytes."""
        layer = self.layer(0)
        return int(len(self.layers) * prod(layer.shape[1:]) * layer.dtype.itemsize)

    @property
    def num_bytes(self) -> int:
        """What all blocks take, in bytes."""
        return int(self.layer(0).shape[0]) * self.block_bytes


def _settled_scales(
    scales: Sequence[KVScales] | None, num_layers: int, dtype: torch.dtype
) -> tuple[KVScales, ...]:
    if scales is None:
        return (KVScales(),) * num_layers
    if len(scales) != num_layers:
        raise ConfigError(f"{len(scales)} scales for {num_layers} layers; each layer needs one")
    if dtype != FP8_DTYPE and any(one != KVScales() for one in scales):
        raise ConfigError(f"scales are for KV in {FP8_DTYPE}, and dtype is {dtype}; leave them out")
    return tuple(scales)


def _allocate(
    num_layers: int, shape: tuple[int, ...], dtype: torch.dtype, layout: KVLayout, device: torch.device
) -> list[torch.Tensor]:
    """Views of one allocation, each at a multiple of the alignment."""
    layer_bytes = -(-prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    try:
        raw = _zeros(num_layers * layer_bytes + _ALIGNMENT, device)
    except (RuntimeError, AssertionError, TypeError, ValueError, MemoryError) as error:
        # no memory, no such device, more than 64 bits
        wanted = f"{num_layers} layers of {shape[0]} blocks take {num_layers * layer_bytes / 2**30:.2f} GiB"
        raise ConfigError(
            f"{wanted}, which {device} cannot give: use fewer blocks, or a device that is there ({error})"
        ) from error
    start = -raw.data_ptr() % _ALIGNMENT
    order = layout.value
    views = []
    for i in range(num_layers):
        first = start + i * layer_bytes
        flat = raw[first : first + prod(shape) * dtype.itemsize].view(dtype)
        in_memory = flat.view([shape[axis] for axis in order])
        views.append(in_memory.permute([order.index(axis) for axis in range(len(shape))]))
    return views


def _zeros(num_bytes: int, device: torch.device) -> torch.Tensor:
    """Memory; on a CPU from numpy, which asks for huge pages: blocks are scattered, and copied whole."""
    if device.type != "cpu":
        return torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    return torch.from_numpy(np.empty(num_bytes, np.uint8)).zero_()
