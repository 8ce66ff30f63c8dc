"""block_gather and block_scatter in plain words: block by block, layer by layer, byte by byte."""

import torch

from pagedkv.kv_store import KVLayers

__all__ = ["block_gather", "block_scatter"]


def block_gather(layers: KVLayers, block_ids: torch.Tensor, staging: torch.Tensor) -> None:
    """Collect blocks; arguments as for `pagedkv.kernels.block_gather`."""
    for place, block in enumerate(block_ids.tolist()):
        for layer, kv in enumerate(layers.tensors):
            staging.view(torch.uint8)[place, layer] = kv.view(torch.uint8)[block]


def block_scatter(staging: torch.Tensor, layers: KVLayers, block_ids: torch.Tensor) -> None:
    """Put blocks back; arguments as for `pagedkv.kernels.block_scatter`."""
    for place, block in enumerate(block_ids.tolist()):
        for layer, kv in enumerate(layers.tensors):
            kv.view(torch.uint8)[block] = staging.view(torch.uint8)[place, layer]
