"""kv_write in Triton: a program takes some tokens, or part of one, and writes keys and values."""

import torch
import triton
import triton.language as tl

from pagedkv.errors import KernelInputError
from pagedkv.kernels.launch import MIN_FP8_ARCH, Launch, Target, power_of_2, require_aligned
from pagedkv.kv_store import FP8_DTYPE, VECTOR_BYTES, KVScales

__all__ = ["kv_write_kernel", "launches"]

_NUM_WARPS = 4
_LEAST_WIDTH = 128  # elements of a token that a program takes at least, so that warps touch whole lines


@triton.jit
def _e4m3(numbers, IN_HARDWARE: tl.constexpr):
    """The e4m3 codes of float32 numbers (uint8): clamped, to nearest even; NaN stays NaN."""
    if IN_HARDWARE:
        clamped = tl.clamp(numbers, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL)
        return clamped.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
    bits = numbers.to(tl.uint32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # 3 of 23 bits of the mantissa stay; the exponent's bias goes from 127 to 7.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
    # Below 2**-6 codes are multiples of 2**-9, which is what a last bit is worth from 2**14 on.
    lifted = magnitude.to(tl.float32, bitcast=True) + 16384.0
    subnormal = lifted.to(tl.uint32, bitcast=True) - 0x46800000
    code = tl.minimum(tl.where(magnitude < 0x3C800000, subnormal, normal), 0x7E)
    code = tl.where(magnitude > 0x7F800000, 0x7F, code)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)


@triton.jit(do_not_specialize=["num_tokens"], do_not_specialize_on_alignment=["slot_mapping"])
def kv_write_kernel(
    key,
    value,
    kv,
    slot_mapping,
    num_tokens,
    k_factor,
    v_factor,
    stride_key_token: tl.int64,
    stride_key_head: tl.int64,
    stride_value_token: tl.int64,
    stride_value_head: tl.int64,
    stride_block: tl.int64,
    stride_part: tl.int64,
    stride_head: tl.int64,
    stride_token: tl.int64,
    NUM_HEADS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    TO_FP8: tl.constexpr,
    IN_HARDWARE: tl.constexpr,
):
    """Write `TOKENS` tokens, or `WIDTH` elements of each where a token has more.

    Args:
        key: `[num_tokens, NUM_HEADS, HEAD_DIM]`.
        value: likewise.
        kv: where blocks begin; bytes, with `TO_FP8`.
        slot_mapping: `[num_tokens]` (int64); negative skips.
        num_tokens: tokens.
        k_factor: with `TO_FP8`, what keys are multiplied with.
        v_factor: likewise.
        stride_key_token: elements from token to token.
        stride_key_head: elements from head to head.
        stride_value_token: likewise.
        stride_value_head: likewise.
        stride_block: elements of `kv` from block to block.
        stride_part: from keys to values.
        stride_head: from head to head.
        stride_token: from token to token.
        NUM_HEADS: KV heads.
        BLOCK_SIZE: tokens in a block.
        HEAD_DIM: elements of a head.
        TOKENS: tokens of a program.
        WIDTH: elements of a token that a program takes.
        TO_FP8: whether e4m3 codes are stored.
        IN_HARDWARE: whether the GPU converts to them; otherwise integer arithmetic does.
    """
    ROW: tl.constexpr = NUM_HEADS * HEAD_DIM
    TILES: tl.constexpr = (ROW + WIDTH - 1) // WIDTH
    program = tl.program_id(0)
    tokens = (program // TILES).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    elements = program % TILES * WIDTH + tl.arange(0, WIDTH)
    heads, dims = (elements // HEAD_DIM)[None, :], (elements % HEAD_DIM)[None, :]
    is_loaded = (tokens < num_tokens)[:, None]
    slots = tl.load(slot_mapping + tokens, mask=tokens < num_tokens, other=-1)
    if ROW % WIDTH:
        is_loaded = is_loaded & (elements < ROW)[None, :]
    # Loads do not wait for slots: a skipped token is read in vain, all others a latency earlier.
    key_offsets = tokens[:, None] * stride_key_token + (heads * stride_key_head + dims)
    keys = tl.load(key + key_offsets, mask=is_loaded)
    value_offsets = tokens[:, None] * stride_value_token + (heads * stride_value_head + dims)
    values = tl.load(value + value_offsets, mask=is_loaded)
    if TO_FP8:
        keys = _e4m3(keys.to(tl.float32) * k_factor, IN_HARDWARE)
        values = _e4m3(values.to(tl.float32) * v_factor, IN_HARDWARE)
    is_stored = is_loaded & (slots >= 0)[:, None]
    firsts = slots // BLOCK_SIZE * stride_block + slots % BLOCK_SIZE * stride_token
    places = kv + (firsts[:, None] + (heads * stride_head + dims))
    tl.store(places, keys, mask=is_stored)
    tl.store(places + stride_part, values, mask=is_stored)


def launches(
    key: torch.Tensor,
    value: torch.Tensor,
    kv: torch.Tensor,
    slot_mapping: torch.Tensor,
    scales: KVScales,
    target: Target,
) -> list[Launch]:
    """What `pagedkv.kernels.kv_write` launches for these arguments.

    Raises:
        KernelInputError: rows or addresses that 128-bit accesses do not fit.
    """
    num_tokens, num_heads, head_dim = key.shape
    if head_dim % VECTOR_BYTES:
        raise KernelInputError(f"head_dim is {head_dim}; on a GPU it must be a multiple of {VECTOR_BYTES}")
    require_aligned(key=key, value=value, kv=kv)
    to_fp8 = kv.dtype == FP8_DTYPE
    num_elements = _NUM_WARPS * 32 * VECTOR_BYTES // kv.dtype.itemsize
    width = _width(num_heads * head_dim, num_elements)
    tokens = num_elements // width
    tiles = -(-num_heads * head_dim // width)
    return [
        Launch(
            kernel=kv_write_kernel,
            grid=(-(-num_tokens // tokens) * tiles, 1, 1),
            arguments={
                "key": key,
                "value": value,
                "kv": kv.view(torch.uint8) if to_fp8 else kv,
                "slot_mapping": slot_mapping,
                "num_tokens": num_tokens,
                "k_factor": 1 / scales.k,
                "v_factor": 1 / scales.v,
                "stride_key_token": key.stride(0),
                "stride_key_head": key.stride(1),
                "stride_value_token": value.stride(0),
                "stride_value_head": value.stride(1),
                "stride_block": kv.stride(0),
                "stride_part": kv.stride(1),
                "stride_head": kv.stride(2),
                "stride_token": kv.stride(3),
            },
            constants={
                "NUM_HEADS": num_heads,
                "BLOCK_SIZE": kv.shape[3],
                "HEAD_DIM": head_dim,
                "TOKENS": tokens,
                "WIDTH": width,
                "TO_FP8": to_fp8,
                # The interpreter, which runs on CPU tensors, rounds to e4m3 wrongly.
                "IN_HARDWARE": to_fp8 and target.arch >= MIN_FP8_ARCH and kv.device.type != "cpu",
            },
            num_warps=_NUM_WARPS,
        )
    ]


def _width(row: int, most: int) -> int:
    """Elements of a token that a program takes: a power of two that divides them, if a large one does."""
    divisor = row & -row
    return min(divisor if divisor >= _LEAST_WIDTH else power_of_2(row), most)
