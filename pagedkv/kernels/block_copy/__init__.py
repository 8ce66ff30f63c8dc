"""All copy-on-write copies of a step, in all layers."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.debugging import is_checking
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import check_indices, check_range, check_unique
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
        KernelInputError: shapes, dtypes, devices, strides or alignment that do not fit; under
            `debugging.checking_contents` also blocks that are not there, and copies that depend on each
            other. Nothing was written.
    """
    kv = layers.tensors[0]
    check_indices("copies", copies, (len(copies) if copies.ndim else 0, 2), kv)
    if is_checking():
        _check_contents(copies, kv.shape[0])
    if not len(copies):
        return
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
    sources, destinations = copies.unbind(1)
    check_unique("copies[:, 1]", destinations)
    for i in torch.isin(destinations, sources).nonzero().flatten().tolist():
        block = int(destinations[i])
        reader = int((sources == block).nonzero()[0])
        raise KernelInputError(
            f"copies[{i}] writes block {block}, which copies[{reader}] reads: copies run side by side; make "
            "two calls"
        )
