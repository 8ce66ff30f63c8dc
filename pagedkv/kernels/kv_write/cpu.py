"""kv_write in torch: one indexed copy of rows for keys, one for values."""

from typing import NamedTuple

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.plan import AttentionPlan, planned
from pagedkv.kv_store import FP8_DTYPE, KVScales

__all__ = ["kv_write"]

_FP8_MAX = torch.finfo(FP8_DTYPE).max


class _Places(NamedTuple):
    """Where tokens go, the same in all layers of a form.

    Attributes:
        kept: `[num_tokens]` (bool) tokens that are written; None for all.
        rows: of keys and of values, `[num_kept * num_kv_heads]` (int64) rows of a layer.
    """

    kept: torch.Tensor | None
    rows: tuple[torch.Tensor, torch.Tensor]


def kv_write(
    key: torch.Tensor,
    value: torch.Tensor,
    kv: torch.Tensor,
    slot_mapping: torch.Tensor,
    scales: KVScales,
    plan: AttentionPlan | None = None,
) -> None:
    """Write the keys and values of tokens to their slots; arguments as for `pagedkv.kernels.kv_write`."""
    layer = _rows_of(kv)
    form = "written", kv.shape[2:], kv.stride()
    kept, rows = planned(plan, form, (slot_mapping,), lambda: _places(kv, slot_mapping))
    for numbers, tokens, scale in ((rows[0], key, scales.k), (rows[1], value, scales.v)):
        written = tokens if kept is None else tokens[kept]
        stored = _quantised(written, scale) if kv.dtype == FP8_DTYPE else written
        layer.index_copy_(0, numbers, stored.reshape(-1, kv.shape[4]))


def _rows_of(kv: torch.Tensor) -> torch.Tensor:
    """All of a layer as rows of `head_dim` elements, in the order of memory; bytes if there are 8 bits."""
    *outer, inner = kv.stride()
    head_dim = kv.shape[4]
    if inner != 1 or any(stride % head_dim for stride in outer):
        raise KernelInputError(
            f"kv has the strides {kv.stride()}; the last must be 1 and the others multiples of {head_dim}"
        )
    reach = sum((size - 1) * stride for size, stride in zip(kv.shape[:4], outer, strict=True))
    rows = kv.as_strided((reach // head_dim + 1, head_dim), (head_dim, 1))
    return rows.view(torch.uint8) if kv.dtype == FP8_DTYPE else rows


def _places(kv: torch.Tensor, slots: torch.Tensor) -> _Places:
    block_size, (by_block, by_part, by_head, by_token, _) = kv.shape[3], kv.stride()
    kept = slots >= 0
    are_all_kept = bool(kept.all())
    written = slots if are_all_kept else slots[kept]
    firsts = written // block_size * by_block + written % block_size * by_token
    heads = torch.arange(kv.shape[2]) * by_head
    keys = (firsts[:, None] + heads).flatten() // kv.shape[4]
    return _Places(None if are_all_kept else kept, (keys, keys + by_part // kv.shape[4]))


def _quantised(tokens: torch.Tensor, scale: float) -> torch.Tensor:
    """The bytes that are stored with 8 bits."""
    scaled = tokens.float() * (1 / scale)
    return scaled.clamp_(-_FP8_MAX, _FP8_MAX).to(FP8_DTYPE).view(torch.uint8)
