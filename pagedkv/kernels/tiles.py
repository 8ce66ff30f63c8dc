"""What the attention kernels share: one tile of query rows attends to a range of a sequence's tokens.

The rows of a tile are query tokens and heads of one KV head packed together, so that each key and value is
read once for all of them. Softmax is computed online (Milakov & Gimelshein, arXiv:1805.02867, and
FlashAttention, arXiv:2205.14135), in base 2: scores arrive multiplied by log2(e).
"""

import triton
import triton.language as tl

__all__ = [
    "attend",
    "finish",
    "load_rows",
    "load_sinks",
    "nothing_seen",
    "split_range",
    "store_no_part",
    "store_part",
]

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_rows(pointers, is_row, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """Rows of `HEAD_DIM` elements at `pointers` `[rows]`, zeros elsewhere: `[rows, PADDED_DIM]`."""
    dims = tl.arange(0, PADDED_DIM)
    mask = is_row[:, None] & (dims < HEAD_DIM)[None, :]
    return tl.load(pointers[:, None] + dims[None, :], mask=mask, other=0.0)


@triton.jit
def load_sinks(sinks, heads, is_row):
    """The sinks of some heads as scores in base 2, finite."""
    sink = tl.load(sinks + heads, mask=is_row, other=0.0)
    return tl.minimum(tl.maximum(sink, -1e30), 1e30) * _LOG2_E


@triton.jit
def _tanh(x):
    """tanh, as exact near 0 as float32 is: there the difference of 1 and a quotient would not be."""
    square = x * x
    near = x * (1.0 - square * (1.0 / 3 - square * (2.0 / 15 - square * (17.0 / 315))))
    far = 1.0 - 2.0 / (tl.exp2(x * (2 * _LOG2_E)) + 1.0)
    return tl.where(tl.abs(x) < 0.25, near, far)


@triton.jit
def split_range(first, length, split, split_size, num_splits, TILE_N: tl.constexpr, MIN_SPLIT: tl.constexpr):
    """The tokens of a split of a sequence: begin and end, equal or crossed if there are none.

    With a `split_size`, splits lie at multiples of it, whatever else is in the batch. Without (0), the tokens
    from `first` to `length` are divided evenly, into parts of `MIN_SPLIT` tokens or more.
    """
    if split_size == 0:
        each = (tl.maximum(length - first, 0) + num_splits - 1) // num_splits
        size = (tl.maximum(each, MIN_SPLIT) + TILE_N - 1) // TILE_N * TILE_N
        begin = first + split * size
        end = begin + size
    else:
        end = (first // split_size + split + 1) * split_size
        begin = tl.maximum(first, end - split_size)
    return begin, tl.minimum(end, length)


@triton.jit
def _load_kv(
    base,
    offsets,
    is_token,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    IS_MASKED: tl.constexpr,
):
    """Keys or values of a tile, `[TILE_N, PADDED_DIM]`; zeros where there is no token."""
    dims = tl.arange(0, PADDED_DIM)
    pointers = base + offsets[:, None] + dims[None, :]
    if IS_MASKED:
        if HEAD_DIM == PADDED_DIM:
            return tl.load(pointers, mask=is_token[:, None], other=0.0)
        return tl.load(pointers, mask=is_token[:, None] & (dims < HEAD_DIM)[None, :], other=0.0)
    if HEAD_DIM == PADDED_DIM:
        return tl.load(pointers)
    return tl.load(pointers, mask=(dims < HEAD_DIM)[None, :], other=0.0)


@triton.jit
def nothing_seen(TILE_M: tl.constexpr, PADDED_DIM: tl.constexpr):
    """acc, top and total of rows that have attended to nothing yet; see `attend`."""
    acc = tl.zeros([TILE_M, PADDED_DIM], tl.float32)
    top = tl.full([TILE_M], float("-inf"), tl.float32)
    total = tl.zeros([TILE_M], tl.float32)
    return acc, top, total


@triton.jit
def attend(
    acc,
    top,
    total,
    q,
    row_positions,
    keys,
    values,
    table,
    begin,
    end,
    first_seen,
    inner_scale,
    outer_scale,
    window,
    stride_block,
    stride_token,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE_N: tl.constexpr,
    HAS_CAP: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    IS_MASKED: tl.constexpr,
):
    """Attend to the tokens from `begin` to `end` of one sequence.

    Args:
        acc: `[rows, PADDED_DIM]` (float32) sum of values, weighted relative to `top`.
        top: `[rows]` (float32) largest score so far; -inf for none.
        total: `[rows]` (float32) sum of weights.
        q: `[rows, PADDED_DIM]` queries.
        row_positions: `[rows]` where the queries stand; -1 for rows that see nothing.
        keys: where the keys of this head begin.
        values: likewise.
        table: the sequence's blocks.
        begin: first token; with blocks of `TILE_N` tokens or more a multiple of `TILE_N`.
        end: behind the last token.
        first_seen: the first token that any row sees, with `HAS_WINDOW`: what is before it is not read.
        inner_scale: factor of query times key.
        outer_scale: with a cap, factor of its tanh.
        window: tokens that a query sees, with `HAS_WINDOW`.
        stride_block: elements from block to block.
        stride_token: elements from token to token.
        HEAD_DIM: elements of a head.
        PADDED_DIM: the power of two that holds them.
        BLOCK_SIZE: tokens of a block.
        TILE_N: tokens of a step.
        HAS_CAP: scores are bounded.
        HAS_WINDOW: queries see the last tokens only; counts with `IS_MASKED`.
        IS_MASKED: without, every row sees every token, and there are whole tiles of them.

    Returns:
        acc, top and total with these tokens.
    """
    columns = tl.arange(0, TILE_N)
    for start in tl.range(begin, end, TILE_N):
        positions = start + columns
        is_token = positions < end
        if HAS_WINDOW:
            is_token = is_token & (positions >= first_seen)
        if BLOCK_SIZE >= TILE_N:
            block = tl.load(table + start // BLOCK_SIZE).to(tl.int64)
        elif IS_MASKED:
            block = tl.load(table + positions // BLOCK_SIZE, mask=is_token, other=0).to(tl.int64)
        else:
            block = tl.load(table + positions // BLOCK_SIZE).to(tl.int64)
        offsets = block * stride_block + (positions % BLOCK_SIZE) * stride_token
        k = _load_kv(keys, offsets, is_token, HEAD_DIM, PADDED_DIM, IS_MASKED).to(q.dtype)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * inner_scale
        if HAS_CAP:
            scores = _tanh(scores) * outer_scale
        if IS_MASKED:
            is_seen = is_token[None, :] & (positions[None, :] <= row_positions[:, None])
            if HAS_WINDOW:
                is_seen = is_seen & (positions[None, :] > row_positions[:, None] - window)
            scores = tl.where(is_seen, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        reference = tl.where(new_top == float("-inf"), 0.0, new_top) if IS_MASKED else new_top
        weights = tl.exp2(scores - reference[:, None])
        shrink = tl.exp2(top - reference)
        total = total * shrink + tl.sum(weights, 1)
        v = _load_kv(values, offsets, is_token, HEAD_DIM, PADDED_DIM, IS_MASKED).to(q.dtype)
        acc = tl.dot(weights.to(q.dtype), v, acc * shrink[:, None], input_precision="ieee")
        top = new_top
    return acc, top, total


@triton.jit
def finish(acc, top, total, sink, v_scale, HAS_SINKS: tl.constexpr):
    """The output of rows that have seen all of their tokens: `[rows, PADDED_DIM]`; zeros if they saw none.

    `sink` `[rows]` is a score in base 2.
    """
    is_empty = total == 0.0
    if HAS_SINKS:
        new_top = tl.maximum(tl.maximum(top, sink), -1e30)  # finite, so that no infinities are subtracted
        total = total * tl.exp2(top - new_top) + tl.exp2(sink - new_top)
        acc = acc * tl.exp2(top - new_top)[:, None]
    return acc * (v_scale / tl.where(is_empty, 1.0, total))[:, None]


@triton.jit
def store_part(
    partial_out,
    partial_lse,
    parts,
    is_row,
    acc,
    top,
    total,
    HEAD_DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
):
    """Leave what rows have seen so far at `parts` `[rows]` (int64), for the merge."""
    dims = tl.arange(0, PADDED_DIM)
    normalised = finish(acc, top, total, top, 1.0, False)
    targets = partial_out + parts[:, None] * HEAD_DIM + dims[None, :]
    tl.store(targets, normalised, mask=is_row[:, None] & (dims < HEAD_DIM)[None, :])
    tl.store(partial_lse + parts, top + tl.log2(total), mask=is_row)


@triton.jit
def store_no_part(partial_lse, parts, is_row, TILE_M: tl.constexpr):
    """Tell the merge that there is nothing at `parts` `[rows]` (int64)."""
    tl.store(partial_lse + parts, tl.full([TILE_M], float("-inf"), tl.float32), mask=is_row)
