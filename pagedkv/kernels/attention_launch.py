"""What the launchers of the attention kernels share: checks for the GPU, arguments by name."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.launch import MAX_GRID_AXIS, MIN_FP8_ARCH, Target, power_of_2, require_aligned
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kv_store import FP8_DTYPE

__all__ = [
    "HEAD_DIMS",
    "attention_arguments",
    "attention_constants",
    "check_for_gpu",
]

HEAD_DIMS = (64, 80, 96, 128, 256)
"""Elements of a head that the GPU kernels are compiled for."""

_MIN_ARCH = 80  # Ampere, the first with asynchronous copies
_BLOCK_SIZES = (8, 16, 32, 64, 128, 256)
_LOG2_E = math.log2(math.e)


def check_for_gpu(
    query: torch.Tensor, kv: torch.Tensor, block_tables: torch.Tensor, out: torch.Tensor, target: Target
) -> None:
    """Check what only the GPU kernels ask for.

    Raises:
        KernelInputError: a size, an alignment or a dtype that they do not take.
    """
    if target.arch < _MIN_ARCH:
        raise KernelInputError(f"the GPU is sm_{target.arch}; the kernels need sm_{_MIN_ARCH} or later")
    head_dim, block_size = kv.shape[4], kv.shape[3]
    if head_dim not in HEAD_DIMS:
        raise KernelInputError(
            f"head_dim is {head_dim}; the GPU kernels take {', '.join(map(str, HEAD_DIMS))}"
        )
    if block_size not in _BLOCK_SIZES:
        raise KernelInputError(
            f"block_size is {block_size}; the GPU kernels take {', '.join(map(str, _BLOCK_SIZES))}"
        )
    if kv.dtype == FP8_DTYPE and target.arch < MIN_FP8_ARCH:
        raise KernelInputError(
            f"kv is {FP8_DTYPE}, and sm_{target.arch} cannot convert it (sm_{MIN_FP8_ARCH} can): store KV in "
            "float16 or bfloat16 there"
        )
    if block_tables.shape[0] > MAX_GRID_AXIS:
        raise KernelInputError(
            f"{block_tables.shape[0]} sequences in one call; a launch takes {MAX_GRID_AXIS}: make "
            "several calls"
        )
    require_aligned(query=query, kv=kv, out=out)


def attention_arguments(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
) -> dict[str, Any]:
    """The run-time arguments that every attention kernel has."""
    scale = options.scale * options.k_scale
    cap = options.soft_cap
    return {
        "query": query,
        "kv": kv,
        "block_tables": block_tables,
        "seq_lens": seq_lens,
        "inner_scale": scale * _LOG2_E if cap is None else scale / cap,
        "outer_scale": 1.0 if cap is None else cap * _LOG2_E,
        "window": min(options.sliding_window or 0, block_tables.shape[1] * kv.shape[3]),
        "stride_query_head": query.stride(-2),
        "stride_block": kv.stride(0),
        "stride_part": kv.stride(1),
        "stride_kv_head": kv.stride(2),
        "stride_token": kv.stride(3),
        "stride_table": block_tables.stride(0),
    }


def attention_constants(
    kv: torch.Tensor, num_query_heads: int, options: AttentionOptions
) -> Mapping[str, Any]:
    """What every attention kernel has compiled in."""
    _, _, num_kv_heads, block_size, head_dim = kv.shape
    return {
        "GROUP": num_query_heads // num_kv_heads,
        "HEAD_DIM": head_dim,
        "PADDED_DIM": power_of_2(head_dim),
        "BLOCK_SIZE": block_size,
        "HAS_CAP": options.soft_cap is not None,
        "HAS_WINDOW": options.sliding_window is not None,
    }
