"""Tile sizes of the attention kernels, by architecture, dtype and head dimension.

They are the largest that compile without spilling (but for float32 queries over 8-bit KV with 256 elements a
head, which always spill), with the loads of at least two tiles under way where shared memory allows it: loads
of blocks depend on loads of the table, for which Triton's pipeline keeps `(num_stages - 1) // 2` tiles.
`pytest --pagedkv-perf` holds what the compiler makes of them.
"""

from dataclasses import dataclass

import torch

from pagedkv.kernels.launch import Target, power_of_2

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


_Key = tuple[int, int, int, int]
"""Architecture (90: Hopper and data-centre Blackwell; 80: all others, which have less shared memory, down to
99 KiB), bytes of an element of the query and of KV, and padded head dimension."""

_DECODE: dict[_Key, tuple[Tile, ...]] = {
    (80, 2, 2, 64): (Tile(32, 64, 4, 5),),
    (80, 2, 2, 128): (Tile(16, 64, 4, 5), Tile(32, 64, 8, 5)),
    (80, 2, 2, 256): (Tile(32, 32, 4, 5),),
    (80, 2, 1, 64): (Tile(32, 128, 4, 5),),
    (80, 2, 1, 128): (Tile(16, 64, 4, 5), Tile(32, 64, 8, 5)),
    (80, 2, 1, 256): (Tile(16, 32, 4, 5), Tile(32, 32, 8, 5)),
    (80, 4, 4, 64): (Tile(16, 32, 8, 5),),
    (80, 4, 4, 128): (Tile(16, 32, 8, 5),),
    (80, 4, 4, 256): (Tile(16, 16, 8, 5),),
    (80, 4, 1, 64): (Tile(16, 16, 8, 3),),
    (80, 4, 1, 128): (Tile(16, 16, 8, 3),),
    (80, 4, 1, 256): (Tile(16, 16, 8, 3),),
    (90, 2, 2, 64): (Tile(64, 64, 4, 5),),
    (90, 2, 2, 128): (Tile(64, 64, 4, 5),),
    (90, 2, 2, 256): (Tile(32, 32, 4, 5), Tile(64, 32, 8, 5)),
    (90, 2, 1, 64): (Tile(64, 128, 4, 5),),
    (90, 2, 1, 128): (Tile(64, 64, 4, 5),),
    (90, 2, 1, 256): (Tile(16, 32, 4, 5), Tile(64, 32, 8, 5)),
    (90, 4, 4, 64): (Tile(16, 32, 8, 5),),
    (90, 4, 4, 128): (Tile(16, 32, 8, 5),),
    (90, 4, 4, 256): (Tile(16, 16, 8, 5),),
    (90, 4, 1, 64): (Tile(16, 16, 8, 3),),
    (90, 4, 1, 128): (Tile(16, 16, 8, 3),),
    (90, 4, 1, 256): (Tile(16, 16, 8, 3),),
}
"""The first tile with enough rows, or else the last; where a sequence has fewer rows, fewer are used."""

_PREFILL: dict[_Key, Tile] = {
    (80, 2, 2, 64): Tile(128, 64, 8, 5),
    (80, 2, 2, 128): Tile(128, 32, 8, 5),
    (80, 2, 2, 256): Tile(64, 32, 8, 3),
    (80, 2, 1, 64): Tile(128, 64, 8, 5),
    (80, 2, 1, 128): Tile(128, 32, 8, 5),
    (80, 2, 1, 256): Tile(64, 32, 8, 3),
    (80, 4, 4, 64): Tile(32, 16, 8, 3),
    (80, 4, 4, 128): Tile(32, 16, 4, 3),
    (80, 4, 4, 256): Tile(16, 16, 8, 3),
    (80, 4, 1, 64): Tile(16, 16, 8, 3),
    (80, 4, 1, 128): Tile(16, 16, 8, 3),
    (80, 4, 1, 256): Tile(16, 16, 8, 3),
    (90, 2, 2, 64): Tile(128, 128, 8, 5),
    (90, 2, 2, 128): Tile(128, 64, 8, 5),
    (90, 2, 2, 256): Tile(64, 64, 8, 3),
    (90, 2, 1, 64): Tile(128, 128, 8, 5),
    (90, 2, 1, 128): Tile(128, 64, 8, 5),
    (90, 2, 1, 256): Tile(64, 32, 8, 5),
    (90, 4, 4, 64): Tile(32, 32, 8, 3),
    (90, 4, 4, 128): Tile(64, 16, 8, 3),
    (90, 4, 4, 256): Tile(16, 16, 8, 3),
    (90, 4, 1, 64): Tile(16, 16, 8, 3),
    (90, 4, 1, 128): Tile(16, 16, 8, 3),
    (90, 4, 1, 256): Tile(16, 16, 8, 3),
}


def _key(kv: torch.Tensor, dtype: torch.dtype, target: Target) -> _Key:
    arch = 90 if 90 <= target.arch < 120 else 80
    return arch, dtype.itemsize, kv.dtype.itemsize, power_of_2(kv.shape[4])


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
    tiles = _DECODE[_key(kv, dtype, target)]
    rows = max(16, power_of_2(num_rows))
    tile = next((tile for tile in tiles if rows <= tile.rows), tiles[-1])
    return Tile(min(rows, tile.rows), tile.tokens, tile.num_warps, tile.num_stages)


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
    rows = max(tile.rows, power_of_2(group))
    return Tile(rows, tile.tokens, tile.num_warps, tile.num_stages)
