"""Tile sizes of the attention kernels, by architecture, dtype and head dimension.

They are the largest that compile without spilling, with the loads of at least two tiles under way where
shared memory allows it: loads of blocks depend on loads of the table, for which Triton's pipeline keeps
`(num_stages - 1) // 2` tiles. `pytest --pagedkv-perf` holds what the compiler makes of them.
"""

from dataclasses import dataclass

import torch

from pagedkv.kernels.launch import Target

__all__ = ["Tile", "decode_tile", "prefill_tile"]


@dataclass(frozen=True, slots=True)
class Tile:
    """How a program works.

    Attributes:
        rows: query rows (tokens times heads of one KV head) of a program, 16 at least.
        tokens: cached tokens of one step of its loop.
        num_warps: warps.
        num_stages: depth of its pipeline.
    """

    rows: int
    tokens: int
    num_warps: int
    num_stages: int


_Key = tuple[int, int, int]
"""Architecture (80: before Hopper, 90: from it on), bytes of a query element, padded head dimension."""

_DECODE: dict[_Key, Tile] = {
    (80, 2, 64): Tile(64, 64, 4, 5),
    (80, 2, 128): Tile(32, 64, 4, 5),
    (80, 2, 256): Tile(32, 32, 4, 5),
    (80, 4, 64): Tile(16, 32, 8, 5),
    (80, 4, 128): Tile(16, 32, 8, 5),
    (80, 4, 256): Tile(16, 16, 8, 5),
    (90, 2, 64): Tile(64, 64, 4, 5),
    (90, 2, 128): Tile(64, 64, 4, 5),
    (90, 2, 256): Tile(64, 32, 4, 5),
    (90, 4, 64): Tile(16, 32, 8, 5),
    (90, 4, 128): Tile(16, 32, 8, 5),
    (90, 4, 256): Tile(16, 16, 8, 5),
}
"""Rows are the most; fewer are used where a sequence has fewer."""

_PREFILL: dict[_Key, Tile] = {
    (80, 2, 64): Tile(128, 64, 8, 5),
    (80, 2, 128): Tile(128, 32, 8, 5),
    (80, 2, 256): Tile(64, 32, 8, 3),
    (80, 4, 64): Tile(32, 32, 8, 3),
    (80, 4, 128): Tile(32, 16, 8, 3),
    (80, 4, 256): Tile(16, 16, 8, 3),
    (90, 2, 64): Tile(128, 128, 8, 5),
    (90, 2, 128): Tile(128, 64, 8, 5),
    (90, 2, 256): Tile(64, 64, 8, 3),
    (90, 4, 64): Tile(32, 32, 8, 3),
    (90, 4, 128): Tile(32, 16, 8, 3),
    (90, 4, 256): Tile(16, 16, 8, 3),
}


def _key(kv: torch.Tensor, dtype: torch.dtype, target: Target) -> _Key:
    return 90 if target.arch >= 90 else 80, dtype.itemsize, 1 << (kv.shape[4] - 1).bit_length()


def decode_tile(num_rows: int, kv: torch.Tensor, dtype: torch.dtype, target: Target) -> Tile:
    """Tile sizes of a decode.

    It waits for memory: what counts is that enough bytes are under way, with registers and shared memory left
    for a second program on the multiprocessor.

    Args:
        num_rows: query tokens times query heads of a KV head.
        kv: one layer.
        dtype: of the queries.
        target: the GPU.
    """
    tile = _DECODE[_key(kv, dtype, target)]
    rows = min(max(16, 1 << (num_rows - 1).bit_length()), tile.rows)
    return Tile(rows, tile.tokens, tile.num_warps, tile.num_stages)


def prefill_tile(group: int, kv: torch.Tensor, dtype: torch.dtype, target: Target) -> Tile:
    """Tile sizes of a prefill, with at least one row for each query head of a KV head.

    It waits for the tensor cores: tiles are as large as registers allow.

    Args:
        group: query heads that share a KV head.
        kv: one layer.
        dtype: of the queries.
        target: the GPU.
    """
    tile = _PREFILL[_key(kv, dtype, target)]
    rows = max(tile.rows, 1 << (group - 1).bit_length())
    return Tile(rows, tile.tokens, tile.num_warps, tile.num_stages)
