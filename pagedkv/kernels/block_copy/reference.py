"""block_copy in plain words: layer by layer, copy by copy, byte by byte."""

import torch

from pagedkv.kv_store import KVLayers

__all__ = ["block_copy"]


def block_copy(layers: KVLayers, copies: torch.Tensor) -> None:
    """Copy blocks within every layer; arguments as for `pagedkv.kernels.block_copy`."""
    for kv in layers.tensors:
        in_bytes = kv.view(torch.uint8)
        for source, destination in copies.tolist():
            in_bytes[destination] = in_bytes[source]
