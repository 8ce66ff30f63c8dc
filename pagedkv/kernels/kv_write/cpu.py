"""kv_write in torch: one indexed copy of rows for keys, one for values."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kv_store import FP8_DTYPE, KVScales

__all__ = ["kv_write"]

_FP8_MAX = torch.finfo(FP8_DTYPE).max


def kv_write(
    key: torch.Tensor, value: torch.Tensor, kv: torch.Tensor, slot_mapping: torch.Tensor, scales: KVScales
) -> None:
    """Write the keys and values of tokens to their slots; arguments as for `pagedkv.kernels.kv_write`."""
    rows = _rows_of(kv)
    kept = slot_mapping >= 0
    if not kept.all():
        key, value, slot_mapping = key[kept], value[kept], slot_mapping[kept]
    for part, tokens, scale in ((0, key, scales.k), (1, value, scales.v)):
        numbers = _row_numbers(kv, part, slot_mapping)
        stored = _quantised(tokens, scale) if kv.dtype == FP8_DTYPE else tokens
        rows.index_copy_(0, numbers, stored.reshape(-1, kv.shape[4]))


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


def _row_numbers(kv: torch.Tensor, part: int, slots: torch.Tensor) -> torch.Tensor:
    """`[len(slots) * num_kv_heads]` rows of the slots, head by head."""
    block_size, (by_block, by_part, by_head, by_token, _) = kv.shape[3], kv.stride()
    firsts = slots // block_size * by_block + slots % block_size * by_token + part * by_part
    heads = torch.arange(kv.shape[2]) * by_head
    return (firsts[:, None] + heads).flatten() // kv.shape[4]


def _quantised(tokens: torch.Tensor, scale: float) -> torch.Tensor:
    """The bytes that are stored with 8 bits."""
    scaled = tokens.float() * (1 / scale)
    return scaled.clamp_(-_FP8_MAX, _FP8_MAX).to(FP8_DTYPE).view(torch.uint8)
