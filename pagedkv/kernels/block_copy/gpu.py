"""block_copy in Triton: a program copies one tile of one run of one block in one layer.

It moves words and knows no dtype. Programs that follow each other copy tiles that follow each other.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from pagedkv.errors import KernelInputError
from pagedkv.kernels.launch import Launch, Target, num_warps_of, tile_of
from pagedkv.kv_store import VECTOR_BYTES, KVLayers

__all__ = ["block_copy_kernel", "launches"]


@triton.jit(do_not_specialize_on_alignment=["copies"])
def block_copy_kernel(
    pointers,
    copies,
    stride_block: tl.int64,
    stride_run: tl.int64,
    NUM_RUNS: tl.constexpr,
    RUN: tl.constexpr,
    TILE: tl.constexpr,
):
    """Copy a tile; strides, `RUN` and `TILE` count 16-byte vectors.

    Args:
        pointers: `[num_layers]` (int64) addresses of the layers.
        copies: `[num_copies, 2]` (int64) source and destination block.
        stride_block: from block to block.
        stride_run: from a block's keys to its values, where they lie apart.
        NUM_RUNS: contiguous pieces of a block.
        RUN: length of one.
        TILE: what a program copies.
    """
    TILES: tl.constexpr = (RUN + TILE - 1) // TILE
    program = tl.program_id(0)
    copy = (program // (NUM_RUNS * TILES)).to(tl.int64)
    run = (program // TILES % NUM_RUNS).to(tl.int64)
    words = program % TILES * (4 * TILE) + tl.arange(0, 4 * TILE)
    base = tl.multiple_of(tl.load(pointers + tl.program_id(1)).to(tl.pointer_type(tl.int32)), 16)
    source = tl.load(copies + 2 * copy) * stride_block + run * stride_run
    destination = tl.load(copies + 2 * copy + 1) * stride_block + run * stride_run
    is_in_run = words < 4 * RUN
    moved = tl.load(base + source * 4 + words, mask=is_in_run)
    tl.store(base + destination * 4 + words, moved, mask=is_in_run)


@dataclass(frozen=True, slots=True)
class _Runs:
    """The contiguous pieces of a block, in 16-byte vectors."""

    number: int
    length: int
    stride: int
    block_stride: int


def _runs_of(kv: torch.Tensor) -> _Runs:
    part = kv.shape[2] * kv.shape[3] * kv.shape[4]
    expected = 1
    for stride, size in sorted(zip(kv.stride()[2:], kv.shape[2:], strict=True)):
        if size > 1 and stride != expected:
            raise KernelInputError(
                f"a layer of the shape {list(kv.shape)} has the strides {kv.stride()}; the keys of "
                "a block must be contiguous, and so must its values: use one of KVLayout"
            )
        expected *= size
    is_one_run = kv.stride(1) == part
    sizes = (part * (1 + is_one_run), kv.stride(1), kv.stride(0))
    if any(size * kv.dtype.itemsize % VECTOR_BYTES for size in sizes):
        raise KernelInputError(
            f"a layer of the shape {list(kv.shape)} has the strides {kv.stride()}; its blocks "
            f"must be multiples of {VECTOR_BYTES} bytes"
        )
    length, stride, block_stride = (size * kv.dtype.itemsize // VECTOR_BYTES for size in sizes)
    return _Runs(1 if is_one_run else 2, length, stride, block_stride)


def launches(layers: KVLayers, copies: torch.Tensor, target: Target) -> list[Launch]:  # noqa: ARG001
    """What `pagedkv.kernels.block_copy` launches for these arguments, on any target.

    Raises:
        KernelInputError: strides or addresses that 128-bit accesses do not fit.
    """
    runs = _runs_of(layers.tensors[0])
    tile = tile_of(runs.length)
    tiles = -(-runs.length // tile)
    return [
        Launch(
            kernel=block_copy_kernel,
            grid=(len(copies) * runs.number * tiles, len(layers), 1),
            arguments={
                "pointers": layers.pointers,
                "copies": copies,
                "stride_block": runs.block_stride,
                "stride_run": runs.stride,
            },
            constants={"NUM_RUNS": runs.number, "RUN": runs.length, "TILE": tile},
            num_warps=num_warps_of(tile),
        )
    ]
