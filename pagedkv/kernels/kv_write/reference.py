"""kv_write in plain words: token by token."""

import torch

from pagedkv.kv_store import FP8_DTYPE, KVScales

__all__ = ["kv_write"]


def kv_write(
    key: torch.Tensor, value: torch.Tensor, kv: torch.Tensor, slot_mapping: torch.Tensor, scales: KVScales
) -> None:
    """Write the keys and values of tokens to their slots; arguments as for `pagedkv.kernels.kv_write`."""
    block_size = kv.shape[3]
    for token, slot in enumerate(slot_mapping.tolist()):
        if slot == -1:
            continue
        block, offset = divmod(slot, block_size)
        kv[block, 0, :, offset] = _stored(key[token], scales.k, kv.dtype)
        kv[block, 1, :, offset] = _stored(value[token], scales.v, kv.dtype)


def _stored(row: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    if dtype != FP8_DTYPE:
        return row
    return (row.float() * (1 / scale)).clamp(-448, 448).to(dtype)
