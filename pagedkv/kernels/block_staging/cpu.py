"""block_gather and block_scatter in torch: a copy for each block, for the reasons that block_copy has."""

import torch

from pagedkv.kv_store import KVLayers

__all__ = ["block_gather", "block_scatter"]


def block_gather(layers: KVLayers, block_ids: torch.Tensor, staging: torch.Tensor) -> None:
    """Collect blocks; arguments as for `pagedkv.kernels.block_gather`."""
    blocks = block_ids.tolist()
    for kv, staged in zip(layers.tensors, staging.unbind(1), strict=True):
        for block, place in zip(blocks, staged.unbind(0), strict=True):
            place.copy_(kv[block])


def block_scatter(staging: torch.Tensor, layers: KVLayers, block_ids: torch.Tensor) -> None:
    """Put blocks back; arguments as for `pagedkv.kernels.block_scatter`."""
    blocks = block_ids.tolist()
    for kv, staged in zip(layers.tensors, staging.unbind(1), strict=True):
        for block, place in zip(blocks, staged.unbind(0), strict=True):
            kv[block].copy_(place)
