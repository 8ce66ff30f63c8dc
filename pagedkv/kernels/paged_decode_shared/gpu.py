"""Decode of sequences that share prefixes, in Triton.

Three launches: the queries of each group attend to its shared blocks; each sequence attends to the tokens
behind them, with the kernel of `paged_decode`; what both leave is merged.
"""

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from pagedkv.kernels.attention_launch import attention_arguments, attention_constants, check_for_gpu
from pagedkv.kernels.launch import Launch, Target
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode.gpu import MIN_SPLIT, Partials, Splits, merge_launch, split_launch
from pagedkv.kernels.paged_decode_shared.prefixes import SharedPrefixes
from pagedkv.kernels.tiles import attend, load_rows, nothing_seen, split_range, store_no_part, store_part
from pagedkv.kernels.tuning import Tile, decode_tile
from pagedkv.kernels.workspace import Workspace

__all__ = ["launches"]


@triton.jit(
    do_not_specialize=["window", "stride_table", "split_size", "num_splits", "num_parts"],
    do_not_specialize_on_alignment=["block_tables", "seq_lens", "group_starts", "prefix_lens"],
)
def prefix_kernel(
    query,
    kv,
    block_tables,
    seq_lens,
    group_starts,
    prefix_lens,
    partial_out,
    partial_lse,
    inner_scale,
    outer_scale,
    window,
    split_size,
    num_splits,
    num_parts,
    stride_query_batch,
    stride_query_token,
    stride_query_head,
    stride_block: tl.int64,
    stride_part: tl.int64,
    stride_kv_head: tl.int64,
    stride_token: tl.int64,
    stride_table,
    QUERY_LEN: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    MIN_SPLIT: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):
    """Rows are members, query tokens and heads. Grid: (KV heads x row tiles, splits, groups)."""
    kv_head = tl.program_id(0) % NUM_KV_HEADS
    row_tile = tl.program_id(0) // NUM_KV_HEADS
    split = tl.program_id(1)
    group = tl.program_id(2)
    start = tl.load(group_starts + group)
    size = tl.load(group_starts + group + 1) - start
    rows = row_tile * TILE_M + tl.arange(0, TILE_M)
    is_row = rows < size * QUERY_LEN * GROUP
    if row_tile * TILE_M >= size * QUERY_LEN * GROUP:
        return
    sequences = (start + rows // (QUERY_LEN * GROUP)).to(tl.int64)
    tokens = rows // GROUP % QUERY_LEN
    heads = kv_head * GROUP + rows % GROUP

    lengths = tl.load(seq_lens + sequences, mask=is_row, other=0)
    row_positions = tl.where(is_row, lengths - QUERY_LEN + tokens, -1)
    length = tl.load(prefix_lens + start)
    first = 0
    first_seen = 0
    if HAS_WINDOW:  # the shortest member sees the earliest tokens
        shortest = tl.min(tl.where(is_row, lengths, 2147483647), 0)
        first_seen = tl.maximum(shortest - QUERY_LEN + 1 - window, 0)
        first = first_seen // TILE_N * TILE_N
    begin, end = split_range(first, length, split, split_size, num_splits, TILE_N, MIN_SPLIT)

    parts = ((sequences * QUERY_LEN + tokens) * (NUM_KV_HEADS * GROUP) + heads) * num_parts + split
    if begin >= end:
        store_no_part(partial_lse, parts, is_row, TILE_M)
        return

    pointers = query + sequences * stride_query_batch + tokens * stride_query_token
    q = load_rows(pointers + heads * stride_query_head, is_row, HEAD_DIM, PADDED_DIM)
    acc, top, total = nothing_seen(TILE_M, PADDED_DIM)
    keys = kv + kv_head.to(tl.int64) * stride_kv_head
    acc, top, total = attend(
        acc,
        top,
        total,
        q,
        row_positions,
        keys,
        keys + stride_part,
        block_tables + start.to(tl.int64) * stride_table,
        begin,
        end,
        first_seen,
        inner_scale,
        outer_scale,
        window,
        stride_block,
        stride_token,
        HEAD_DIM,
        PADDED_DIM,
        BLOCK_SIZE,
        TILE_N,
        HAS_CAP,
        HAS_WINDOW,
        True,
    )
    store_part(partial_out, partial_lse, parts, is_row, acc, top, total, HEAD_DIM, PADDED_DIM)


def launches(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    prefixes: SharedPrefixes,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    workspace: Workspace | None,
    split_size: int | None,
    target: Target,
) -> list[Launch]:
    """Describe the launches of `paged_decode_shared`; arguments as there."""
    check_for_gpu(query, kv, block_tables, out, target)
    batch, query_len, num_heads, _ = query.shape
    num_kv_heads = kv.shape[2]
    num_rows = query_len * (num_heads // num_kv_heads)
    arguments = attention_arguments(query, kv, block_tables, seq_lens, options)
    num_groups = prefixes.group_starts.shape[0] - 1

    own_tile = decode_tile(num_rows, kv, query.dtype, target)
    own_programs = batch * num_kv_heads * -(-num_rows // own_tile.rows)
    own = Splits.settle(split_size, own_tile, own_programs, arguments, target)

    shared_rows = min(prefixes.max_group_size, batch) * num_rows
    shared_tile = decode_tile(shared_rows, kv, query.dtype, target)
    num_tiles = -(-shared_rows // shared_tile.rows)
    shared_programs = num_groups * num_kv_heads * num_tiles
    shared = Splits.settle(split_size, shared_tile, shared_programs, arguments, target)

    partials = Partials.take(query, shared.num_splits + own.num_splits, workspace)
    constants = attention_constants(kv, num_heads, options)
    grid = (num_kv_heads * num_tiles, shared.num_splits, num_groups)
    return [
        _prefix_launch(arguments, constants, prefixes, shared_tile, shared, partials, grid),
        split_launch(
            arguments,
            constants,
            options,
            out,
            own_tile,
            own,
            partials,
            first_tokens=prefixes.prefix_lens,
            first_part=shared.num_splits,
        ),
        merge_launch(partials, options, out),
    ]


def _prefix_launch(
    arguments: Mapping[str, Any],
    constants: Mapping[str, Any],
    prefixes: SharedPrefixes,
    tile: Tile,
    splits: Splits,
    partials: Partials,
    grid: tuple[int, int, int],
) -> Launch:
    query = arguments["query"]
    return Launch(
        kernel=prefix_kernel,
        grid=grid,
        arguments={
            **arguments,
            "group_starts": prefixes.group_starts,
            "prefix_lens": prefixes.prefix_lens,
            "partial_out": partials.out,
            "partial_lse": partials.lse,
            "split_size": splits.size,
            "num_splits": splits.num_splits,
            "num_parts": partials.lse.shape[3],
            "stride_query_batch": query.stride(0),
            "stride_query_token": query.stride(1),
        },
        constants={
            **constants,
            "QUERY_LEN": query.shape[1],
            "NUM_KV_HEADS": query.shape[2] // constants["GROUP"],
            "TILE_M": tile.rows,
            "TILE_N": tile.tokens,
            "MIN_SPLIT": MIN_SPLIT,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
