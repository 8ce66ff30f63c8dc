"""Split-KV attention of the last few tokens of each sequence, in Triton.

Stage one: a program takes one KV head of one sequence and one split of its tokens; the query heads that share
the KV head are the rows of its tile, so that keys and values are read once. Stage two merges the splits by
their log-sum-exps (Flash-Decoding; FlashInfer, arXiv:2501.01005). With one split there is no second stage.

Where splits lie is found on the device from each sequence's length: the host decides only how many there may
be, from shapes, so that a launch can be captured in a CUDA graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from pagedkv.errors import KernelInputError
from pagedkv.kernels.attention_launch import (
    attention_arguments,
    attention_constants,
    check_for_gpu,
)
from pagedkv.kernels.launch import MAX_GRID_AXIS, Launch, Target, power_of_2
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.tiles import (
    attend,
    finish,
    load_rows,
    load_sinks,
    nothing_seen,
    split_range,
    store_no_part,
    store_part,
)
from pagedkv.kernels.tuning import Tile, decode_tile
from pagedkv.kernels.workspace import Workspace

__all__ = ["MIN_SPLIT", "Partials", "Splits", "launches", "merge_launch", "num_splits_of", "split_launch"]

MIN_SPLIT = 256
"""Tokens of a split, at least: below, the second stage costs more than the first one gains."""

_MAX_SPLIT = 8192  # tokens: a long sequence among many short ones is not left to one program
_MERGE_TILE = 16  # parts that the second stage takes at once
_PROGRAMS_PER_SM = 2  # they hide each other's latency, and every tile leaves them room


@triton.jit(
    do_not_specialize=["window", "stride_table", "split_size", "num_splits", "num_parts", "first_part"],
    do_not_specialize_on_alignment=["block_tables", "seq_lens", "first_tokens", "sinks"],
)
def decode_kernel(
    query,
    kv,
    block_tables,
    seq_lens,
    first_tokens,
    sinks,
    out,
    partial_out,
    partial_lse,
    inner_scale,
    outer_scale,
    v_scale,
    window,
    split_size,
    num_splits,
    num_parts,
    first_part,
    stride_query_batch,
    stride_query_token,
    stride_query_head,
    stride_out_batch,
    stride_out_token,
    stride_out_head,
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
    TILE_M: tl.constexpr,
    TILE_N: tl.constexpr,
    MIN_SPLIT: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SINKS: tl.constexpr,
    HAS_FIRST: tl.constexpr,
    IS_SPLIT: tl.constexpr,
):
    """Grid: (KV heads x row tiles, splits, sequences)."""
    NUM_TILES: tl.constexpr = (QUERY_LEN * GROUP + TILE_M - 1) // TILE_M
    kv_head = tl.program_id(0) // NUM_TILES
    split = tl.program_id(1)
    sequence = tl.program_id(2)
    num_kv_heads = tl.num_programs(0) // NUM_TILES

    rows = tl.program_id(0) % NUM_TILES * TILE_M + tl.arange(0, TILE_M)
    is_row = rows < QUERY_LEN * GROUP
    tokens = rows // GROUP
    heads = kv_head * GROUP + rows % GROUP

    length = tl.load(seq_lens + sequence)
    row_positions = tl.where(is_row, length - QUERY_LEN + tokens, -1)
    first = 0
    first_seen = 0
    if HAS_FIRST:
        first = tl.load(first_tokens + sequence)
    if HAS_WINDOW:
        first_seen = tl.maximum(length - QUERY_LEN + 1 - window, 0)
        first = tl.maximum(first, first_seen // TILE_N * TILE_N)
    begin, end = split_range(first, length, split, split_size, num_splits, TILE_N, MIN_SPLIT)

    parts = ((sequence.to(tl.int64) * QUERY_LEN + tokens) * (num_kv_heads * GROUP) + heads) * num_parts
    parts += first_part + split
    if IS_SPLIT:  # noqa: SIM102  (decided when the kernel is compiled)
        if begin >= end:
            store_no_part(partial_lse, parts, is_row, TILE_M)
            return

    pointers = query + sequence.to(tl.int64) * stride_query_batch + tokens * stride_query_token
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
        block_tables + sequence.to(tl.int64) * stride_table,
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
    if IS_SPLIT:
        store_part(partial_out, partial_lse, parts, is_row, acc, top, total, HEAD_DIM, PADDED_DIM)
    else:
        dims = tl.arange(0, PADDED_DIM)
        mask = is_row[:, None] & (dims < HEAD_DIM)[None, :]
        sink = top
        if HAS_SINKS:
            sink = load_sinks(sinks, heads, is_row)
        result = finish(acc, top, total, sink, v_scale, HAS_SINKS)
        targets = out + sequence.to(tl.int64) * stride_out_batch + tokens * stride_out_token
        targets += heads * stride_out_head
        tl.store(targets[:, None] + dims[None, :], result.to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["num_parts"], do_not_specialize_on_alignment=["sinks"])
def merge_kernel(
    partial_out,
    partial_lse,
    sinks,
    out,
    v_scale,
    num_parts,
    stride_out_batch,
    stride_out_token,
    stride_out_head,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    TILE_PARTS: tl.constexpr,
    HAS_SINKS: tl.constexpr,
):
    """Merge the parts of a row by their log-sum-exps. Grid: (query heads, query tokens, sequences)."""
    head, token, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = (sequence.to(tl.int64) * tl.num_programs(1) + token) * tl.num_programs(0) + head
    dims = tl.arange(0, PADDED_DIM)
    acc = tl.zeros([PADDED_DIM], tl.float32)
    total = 0.0
    top = -1e30  # finite, so that no infinities are subtracted
    if HAS_SINKS:
        top = load_sinks(sinks, head, True)
        total = 1.0
    num_seen = 0
    for start in tl.range(0, num_parts, TILE_PARTS):
        parts = start + tl.arange(0, TILE_PARTS)
        lse = tl.load(partial_lse + row * num_parts + parts, mask=parts < num_parts, other=float("-inf"))
        is_part = lse != float("-inf")  # NaN is one
        pointers = partial_out + (row * num_parts + parts)[:, None] * HEAD_DIM + dims[None, :]
        part = tl.load(pointers, mask=is_part[:, None] & (dims < HEAD_DIM)[None, :], other=0.0)
        new_top = tl.maximum(top, tl.max(lse, 0))
        weights = tl.exp2(lse - new_top)
        shrink = tl.exp2(top - new_top)
        acc = acc * shrink + tl.sum(weights[:, None] * part, 0)
        total = total * shrink + tl.sum(weights, 0)
        num_seen += tl.sum(is_part.to(tl.int32), 0)
        top = new_top
    result = tl.where(num_seen > 0, acc * (v_scale / tl.where(total == 0.0, 1.0, total)), 0.0)
    target = (
        out + sequence.to(tl.int64) * stride_out_batch + token * stride_out_token + head * stride_out_head
    )
    tl.store(target + dims, result.to(out.dtype.element_ty), mask=dims < HEAD_DIM)


def num_splits_of(num_programs: int, max_tokens: int, target: Target) -> int:
    """How many splits fill the GPU once, and leave no program more than some thousand tokens.

    Args:
        num_programs: programs without splitting.
        max_tokens: most tokens that a sequence may attend to.
        target: the GPU.
    """
    filling = _PROGRAMS_PER_SM * target.num_sms // max(num_programs, 1)
    return max(1, min(filling, -(-max_tokens // MIN_SPLIT)), -(-max_tokens // _MAX_SPLIT))


@dataclass(frozen=True, slots=True)
class Partials:
    """What the programs of the first stage leave to the second.

    Attributes:
        out: `[batch, query_len, num_query_heads, num_parts, head_dim]` (float32), each part normalised.
        lse: `[batch, query_len, num_query_heads, num_parts]` (float32) log-sum-exps in base 2; -inf where a
            part has no token.
    """

    out: torch.Tensor
    lse: torch.Tensor

    @classmethod
    def take(cls, query: torch.Tensor, num_parts: int, workspace: Workspace | None) -> "Partials":
        """From the workspace, or from torch's allocator."""
        shape = (*query.shape[:3], num_parts)
        if workspace is not None:
            return cls(*workspace.take(((*shape, query.shape[3]), torch.float32), (shape, torch.float32)))
        parts = torch.empty(*shape, query.shape[3], dtype=torch.float32, device=query.device)
        return cls(parts, torch.empty(shape, dtype=torch.float32, device=query.device))


@dataclass(frozen=True, slots=True)
class Splits:
    """How the tokens of a sequence are divided.

    Attributes:
        num_splits: programs along a sequence.
        size: tokens of each; 0 to divide each sequence evenly.
    """

    num_splits: int
    size: int

    @classmethod
    def settle(
        cls,
        split_size: int | None,
        tile: Tile,
        num_programs: int,
        arguments: Mapping[str, Any],
        target: Target,
    ) -> "Splits":
        """Of the caller's size if there is one, and else as many as fill the GPU.

        Raises:
            KernelInputError: more splits than a launch takes.
        """
        query, kv, window = arguments["query"], arguments["kv"], arguments["window"]
        max_tokens = arguments["block_tables"].shape[1] * kv.shape[3]
        seen = min(max_tokens, window + query.shape[1] + tile.tokens) if window else max_tokens
        if split_size is None:
            return cls(num_splits_of(num_programs, seen, target), 0)
        size = -(-split_size // tile.tokens) * tile.tokens
        touched = -(-seen // size) + 1  # splits lie at multiples of their size
        num_splits = max(1, min(-(-max_tokens // size), touched))
        if num_splits > MAX_GRID_AXIS:
            raise KernelInputError(
                f"tables of {max_tokens} tokens in splits of {size} are {num_splits} splits, and a launch "
                f"takes {MAX_GRID_AXIS}: raise split_size"
            )
        return cls(num_splits, size)


def launches(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    workspace: Workspace | None,
    split_size: int | None,
    target: Target,
) -> list[Launch]:
    """Describe the launches of `paged_decode`; arguments as there."""
    check_for_gpu(query, kv, block_tables, out, target)
    batch, query_len, num_heads, _ = query.shape
    num_kv_heads = kv.shape[2]
    num_rows = query_len * (num_heads // num_kv_heads)
    tile = decode_tile(num_rows, kv, query.dtype, target)
    num_programs = batch * num_kv_heads * -(-num_rows // tile.rows)
    arguments = attention_arguments(query, kv, block_tables, seq_lens, options)
    splits = Splits.settle(split_size, tile, num_programs, arguments, target)
    is_split = splits.num_splits > 1 or split_size is not None  # which rounds alike however wide the table is
    partials = Partials.take(query, splits.num_splits, workspace) if is_split else None
    constants = attention_constants(kv, num_heads, options)
    first = split_launch(arguments, constants, options, out, tile, splits, partials)
    return [first] if partials is None else [first, merge_launch(partials, options, out)]


def split_launch(
    arguments: Mapping[str, Any],
    constants: Mapping[str, Any],
    options: AttentionOptions,
    out: torch.Tensor,
    tile: Tile,
    splits: Splits,
    partials: Partials | None,
    *,
    first_tokens: torch.Tensor | None = None,
    first_part: int = 0,
) -> Launch:
    """Describe the first stage.

    Args:
        arguments: of `attention_arguments`.
        constants: of `attention_constants`.
        options: of the call.
        out: written if there are no partials.
        tile: tile sizes.
        splits: how the tokens are divided.
        partials: where splits go; None for only one split.
        first_tokens: `[batch]` (int32) tokens that others have seen to; None for none.
        first_part: index of the first split among the parts.
    """
    query = arguments["query"]
    batch, query_len, num_heads, _ = query.shape
    num_rows = query_len * constants["GROUP"]
    num_kv_heads = num_heads // constants["GROUP"]
    return Launch(
        kernel=decode_kernel,
        grid=(num_kv_heads * -(-num_rows // tile.rows), splits.num_splits, batch),
        arguments={
            **arguments,
            "first_tokens": first_tokens,
            "sinks": options.sinks if partials is None else None,
            "out": out,
            "partial_out": None if partials is None else partials.out,
            "partial_lse": None if partials is None else partials.lse,
            "v_scale": float(options.v_scale),
            "split_size": splits.size,
            "num_splits": splits.num_splits,
            "num_parts": 1 if partials is None else partials.lse.shape[3],
            "first_part": first_part,
            "stride_query_batch": query.stride(0),
            "stride_query_token": query.stride(1),
            **_out_strides(out),
        },
        constants={
            **constants,
            "QUERY_LEN": query_len,
            "TILE_M": tile.rows,
            "TILE_N": tile.tokens,
            "MIN_SPLIT": MIN_SPLIT,
            "HAS_SINKS": partials is None and options.sinks is not None,
            "HAS_FIRST": first_tokens is not None,
            "IS_SPLIT": partials is not None,
        },
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def merge_launch(partials: Partials, options: AttentionOptions, out: torch.Tensor) -> Launch:
    """Describe the second stage."""
    batch, query_len, num_heads, head_dim = out.shape
    return Launch(
        kernel=merge_kernel,
        grid=(num_heads, query_len, batch),
        arguments={
            "partial_out": partials.out,
            "partial_lse": partials.lse,
            "sinks": options.sinks,
            "out": out,
            "v_scale": float(options.v_scale),
            "num_parts": partials.lse.shape[3],
            **_out_strides(out),
        },
        constants={
            "HEAD_DIM": head_dim,
            "PADDED_DIM": power_of_2(head_dim),
            "TILE_PARTS": _MERGE_TILE,
            "HAS_SINKS": options.sinks is not None,
        },
        num_warps=2,
        num_stages=2,
    )


def _out_strides(out: torch.Tensor) -> dict[str, int]:
    return {
        "stride_out_batch": out.stride(0),
        "stride_out_token": out.stride(1),
        "stride_out_head": out.stride(2),
    }
