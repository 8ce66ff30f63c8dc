"""block_gather and block_scatter in Triton: a program moves one tile of one block in one layer.

Tiles are contiguous in the staging buffer; in the pool they are rows, wherever the layout has them. Words are
moved, and no dtype is known.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from pagedkv.errors import KernelInputError
from pagedkv.kernels.launch import Launch, Target, num_warps_of, tile_of
from pagedkv.kv_store import VECTOR_BYTES, KVLayers

__all__ = ["block_staging_kernel", "gather_launches", "scatter_launches"]


@triton.jit(do_not_specialize_on_alignment=["block_ids"])
def block_staging_kernel(
    pointers,
    block_ids,
    staging,
    stride_block: tl.int64,
    stride_part: tl.int64,
    stride_head: tl.int64,
    stride_token: tl.int64,
    NUM_HEADS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ROW: tl.constexpr,
    TILE: tl.constexpr,
    IS_GATHER: tl.constexpr,
):
    """Move a tile; strides, `ROW` and `TILE` count 16-byte vectors.

    Args:
        pointers: `[num_layers]` (int64) addresses of the layers.
        block_ids: `[n]` (int64) blocks.
        staging: `[n, num_layers, 2, NUM_HEADS, BLOCK_SIZE, 4 * ROW]` (int32).
        stride_block: from block to block of a layer.
        stride_part: from keys to values.
        stride_head: from head to head.
        stride_token: from token to token.
        NUM_HEADS: KV heads.
        BLOCK_SIZE: tokens in a block.
        ROW: elements of a head of a token.
        TILE: what a program moves.
        IS_GATHER: from the layers to staging; without, back.
    """
    BLOCK: tl.constexpr = 2 * NUM_HEADS * BLOCK_SIZE * ROW
    TILES: tl.constexpr = (BLOCK + TILE - 1) // TILE
    program, layer = tl.program_id(0), tl.program_id(1)
    place = (program // TILES).to(tl.int64)
    words = program % TILES * (4 * TILE) + tl.arange(0, 4 * TILE)
    rows = words // (4 * ROW)
    tokens, heads = rows % BLOCK_SIZE, rows // BLOCK_SIZE % NUM_HEADS
    parts = rows // (BLOCK_SIZE * NUM_HEADS)
    vectors = parts * stride_part + heads * stride_head + tokens * stride_token
    base = tl.multiple_of(tl.load(pointers + layer).to(tl.pointer_type(tl.int32)), 16)
    block = tl.load(block_ids + place)
    pooled = base + (block * stride_block + vectors) * 4 + words % (4 * ROW)
    staged = staging + (place * tl.num_programs(1) + layer) * (4 * BLOCK) + words
    is_in_block = words < 4 * BLOCK
    if IS_GATHER:
        tl.store(staged, tl.load(pooled, mask=is_in_block), mask=is_in_block)
    else:
        tl.store(pooled, tl.load(staged, mask=is_in_block), mask=is_in_block)


def gather_launches(
    layers: KVLayers,
    block_ids: torch.Tensor,
    staging: torch.Tensor,
    target: Target,  # noqa: ARG001
) -> list[Launch]:
    """What `pagedkv.kernels.block_gather` launches for these arguments, on any target.

    Raises:
        KernelInputError: strides or addresses that 128-bit accesses do not fit.
    """
    return [_launch(layers, block_ids, staging, is_gather=True)]


def scatter_launches(
    staging: torch.Tensor,
    layers: KVLayers,
    block_ids: torch.Tensor,
    target: Target,  # noqa: ARG001
) -> list[Launch]:
    """What `pagedkv.kernels.block_scatter` launches for these arguments, on any target.

    Raises:
        KernelInputError: strides or addresses that 128-bit accesses do not fit.
    """
    return [_launch(layers, block_ids, staging, is_gather=False)]


def _launch(layers: KVLayers, block_ids: torch.Tensor, staging: torch.Tensor, *, is_gather: bool) -> Launch:
    kv = layers.tensors[0]
    _, _, num_heads, block_size, head_dim = kv.shape
    row = head_dim * kv.dtype.itemsize // VECTOR_BYTES
    block = 2 * num_heads * block_size * row
    tile = tile_of(block)
    return Launch(
        kernel=block_staging_kernel,
        grid=(len(block_ids) * -(-block // tile), len(layers), 1),
        arguments={
            "pointers": layers.pointers,
            "block_ids": block_ids,
            "staging": _words(staging),
            **_strides(kv),
        },
        constants={
            "NUM_HEADS": num_heads,
            "BLOCK_SIZE": block_size,
            "ROW": row,
            "TILE": tile,
            "IS_GATHER": is_gather,
        },
        num_warps=num_warps_of(tile),
    )


def _words(staging: torch.Tensor) -> torch.Tensor:
    if staging.data_ptr() % VECTOR_BYTES:
        raise KernelInputError(
            f"staging begins at an address that is no multiple of {VECTOR_BYTES} bytes: allocate it aligned"
        )
    return staging.view(torch.int32)


def _strides(kv: torch.Tensor) -> dict[str, Any]:
    """Strides in 16-byte vectors, by argument."""
    sizes = [size * kv.dtype.itemsize for size in (*kv.stride()[:4], kv.shape[4])]
    if kv.stride(4) != 1 or any(size % VECTOR_BYTES for size in sizes):
        raise KernelInputError(
            f"a layer of the shape {list(kv.shape)} has the strides {kv.stride()}; the last must be 1, "
            f"and the length of a row and the other strides multiples of {VECTOR_BYTES} bytes"
        )
    names = ("stride_block", "stride_part", "stride_head", "stride_token")
    return {name: size // VECTOR_BYTES for name, size in zip(names, sizes[:4], strict=True)}
