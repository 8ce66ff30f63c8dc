"""Causal attention of a chunk of new tokens of each sequence over its block table, in Triton.

A program takes a run of query tokens of one sequence, and the query heads that share one KV head: its tile's
rows. Chunks have different lengths; how many programs there may be follows from shapes, and each finds its
sequence by bisection on the device, so that the host waits for nothing. Tokens that all rows of the tile see
are attended to without a mask.
"""

import torch
import triton
import triton.language as tl

from pagedkv.kernels.attention_launch import attention_arguments, attention_constants, check_for_gpu
from pagedkv.kernels.launch import Launch, Target
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.tiles import attend, finish, load_rows, load_sinks, nothing_seen
from pagedkv.kernels.tuning import prefill_tile

__all__ = ["launches"]


@triton.jit
def _sequence_of(tile, query_starts, batch, TILE_TOKENS: tl.constexpr):
    """The sequence of a tile: the last one whose first tile is not behind it.

    Sequence i has the tiles from `query_starts[i] // TILE_TOKENS + i` on, at least as many as it needs.
    """
    low = 0
    high = batch - 1
    while low < high:
        middle = (low + high + 1) // 2
        if tl.load(query_starts + middle) // TILE_TOKENS + middle <= tile:
            low = middle
        else:
            high = middle - 1
    return low


@triton.jit(
    do_not_specialize=["window", "stride_table", "batch", "num_tokens"],
    do_not_specialize_on_alignment=["block_tables", "seq_lens", "query_starts", "sinks"],
)
def prefill_kernel(
    query,
    query_starts,
    kv,
    block_tables,
    seq_lens,
    sinks,
    out,
    inner_scale,
    outer_scale,
    v_scale,
    window,
    batch,
    num_tokens,
    stride_query_token,
    stride_query_head,
    stride_out_token,
    stride_out_head,
    stride_block: tl.int64,
    stride_part: tl.int64,
    stride_kv_head: tl.int64,
    stride_token: tl.int64,
    stride_table,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):
    """Grid: (tiles x KV heads)."""
    TILE_TOKENS: tl.constexpr = TILE_M // GROUP
    kv_head = tl.program_id(0) % NUM_KV_HEADS
    num_tiles = tl.num_programs(0) // NUM_KV_HEADS
    tile = num_tiles - 1 - tl.program_id(0) // NUM_KV_HEADS  # the last ones have most to do: first
    sequence = _sequence_of(tile, query_starts, batch, TILE_TOKENS)
    query_start = tl.load(query_starts + sequence)
    query_len = tl.load(query_starts + sequence + 1) - query_start
    first_token = (tile - query_start // TILE_TOKENS - sequence) * TILE_TOKENS
    num_rows = query_len
    if sequence == batch - 1:  # what pads the query gets zeros
        num_rows = num_tokens - query_start
    if first_token >= num_rows:
        return

    rows = tl.arange(0, TILE_M)
    tokens = first_token + rows // GROUP
    heads = kv_head * GROUP + rows % GROUP
    is_written = (rows < TILE_TOKENS * GROUP) & (tokens < num_rows)
    is_row = is_written & (tokens < query_len)
    num_cached = tl.load(seq_lens + sequence) - query_len
    row_positions = tl.where(is_row, num_cached + tokens, -1)
    pointers = query + (query_start + tokens).to(tl.int64) * stride_query_token + heads * stride_query_head
    q = load_rows(pointers, is_row, HEAD_DIM, PADDED_DIM)

    # [begin, all_see) some rows see, [all_see, causal) all rows, [causal, end) some rows
    first_position = num_cached + first_token
    last_position = num_cached + tl.minimum(first_token + TILE_TOKENS, query_len) - 1
    end = tl.where(first_token < query_len, last_position + 1, 0)
    causal = tl.minimum(tl.maximum(first_position + 1, 0), tl.maximum(end, 0)) // TILE_N * TILE_N
    first_seen = 0
    begin = 0
    all_see = 0
    if HAS_WINDOW:
        first_seen = tl.maximum(first_position + 1 - window, 0)
        begin = first_seen // TILE_N * TILE_N
        all_see = tl.maximum(last_position - window + TILE_N, 0) // TILE_N * TILE_N
        all_see = tl.minimum(tl.maximum(all_see, begin), (tl.maximum(end, 0) + TILE_N - 1) // TILE_N * TILE_N)
        causal = tl.maximum(causal, all_see)

    acc, top, total = nothing_seen(TILE_M, PADDED_DIM)
    keys = kv + kv_head.to(tl.int64) * stride_kv_head
    values = keys + stride_part
    table = block_tables + sequence.to(tl.int64) * stride_table
    FIRST: tl.constexpr = 0 if HAS_WINDOW else 1
    for stretch in tl.static_range(FIRST, 3):
        if stretch == 0:
            start = begin
            stop = tl.minimum(all_see, end)
        elif stretch == 1:
            start = all_see
            stop = causal
        else:
            start = causal
            stop = end
        acc, top, total = attend(
            acc,
            top,
            total,
            q,
            row_positions,
            keys,
            values,
            table,
            start,
            stop,
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
            stretch != 1,
        )
    sink = top
    if HAS_SINKS:
        sink = load_sinks(sinks, heads, is_row)
    result = tl.where(is_row[:, None], finish(acc, top, total, sink, v_scale, HAS_SINKS), 0.0)
    dims = tl.arange(0, PADDED_DIM)
    targets = out + (query_start + tokens).to(tl.int64) * stride_out_token + heads * stride_out_head
    mask = is_written[:, None] & (dims < HEAD_DIM)[None, :]
    tl.store(targets[:, None] + dims[None, :], result.to(out.dtype.element_ty), mask=mask)


def launches(
    query: torch.Tensor,
    query_starts: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    target: Target,
) -> list[Launch]:
    """Describe the launch of `paged_prefill`; arguments as there."""
    check_for_gpu(query, kv, block_tables, out, target)
    num_tokens, num_heads, _ = query.shape
    batch = seq_lens.shape[0]
    num_kv_heads = kv.shape[2]
    tile = prefill_tile(num_heads // num_kv_heads, kv, query.dtype, target)
    num_tiles = num_tokens // (tile.rows // (num_heads // num_kv_heads)) + batch
    arguments = {
        **attention_arguments(query, kv, block_tables, seq_lens, options),
        "query_starts": query_starts,
        "sinks": options.sinks,
        "out": out,
        "v_scale": float(options.v_scale),
        "batch": batch,
        "num_tokens": num_tokens,
        "stride_query_token": query.stride(0),
        "stride_out_token": out.stride(0),
        "stride_out_head": out.stride(1),
    }
    constants = {
        **attention_constants(kv, num_heads, options),
        "TILE_M": tile.rows,
        "TILE_N": tile.tokens,
        "NUM_KV_HEADS": num_kv_heads,
        "HAS_SINKS": options.sinks is not None,
    }
    return [
        Launch(
            kernel=prefill_kernel,
            grid=(num_tiles * num_kv_heads, 1, 1),
            arguments=arguments,
            constants=constants,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )
    ]
