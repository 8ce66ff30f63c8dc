"""All copy-on-write copies of a step, in all layers."""

import numpy as np
import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import check_indices, check_pool, check_range, check_unique, is_looking
from pagedkv.kv_store import KVLayers

__all__ = ["block_copy"]


def block_copy(layers: KVLayers, copies: torch.Tensor) -> None:
    """Copy blocks within every layer.

    Moves `2 num_copies num_layers block_bytes` bytes, `block_bytes` being those of a block in one layer: its
    floor is that over the bandwidth. On a GPU it is one launch, allocates nothing and does not wait.

    Args:
        layers: to be written; of any `KVLayout`.
        copies: `[num_copies, 2]` (int64) source and destination. No destination is a source, or there twice:
            copies run side by side.

    Raises:
        KernelInputError: shapes, dtypes, devices, strides or alignment that do not fit; on the CPU, and
            under `debugging.checking_contents`, also blocks that are not there, and copies that depend on
            each other. Nothing was written.
    """
    kv = layers.tensors[0]
    check_indices("copies", copies, (len(copies) if copies.ndim else 0, 2), kv)
    check_pool("a layer", kv)
    if is_looking(kv):
        _check_contents(copies, kv.shape[0])
    if not len(copies):
        return
    with torch.no_grad():
        if backend_of(kv) == "gpu":
            from pagedkv.kernels.block_copy import gpu
            from pagedkv.kernels.launch import Target

            for launch in gpu.launches(layers, copies, Target.of(kv.device)):
                launch.run()
        else:
            from pagedkv.kernels.block_copy import cpu

            cpu.block_copy(layers, copies)


def _check_contents(copies: torch.Tensor, num_blocks: int) -> None:
    check_range("copies", copies, num_blocks, what="blocks")
    check_unique("copies[:, 1]", copies[:, 1])
    sources, destinations = copies.cpu().numpy().T
    for i in np.flatnonzero(np.isin(destinations, sources)).tolist():
        block = int(destinations[i])
        reader = int(np.flatnonzero(sources == block)[0])
        raise KernelInputError(
            f"copies[{i}] writes block {block}, which copies[{reader}] reads: copies run side by side; make "
            "two calls"
        )
