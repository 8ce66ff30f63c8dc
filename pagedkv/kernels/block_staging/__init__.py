"""Scattered blocks of all layers to and from one contiguous buffer, which is what is moved to the host."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import check_indices, check_pool, check_range, check_unique, is_looking
from pagedkv.kv_store import KVLayers

__all__ = ["block_gather", "block_scatter"]


def block_gather(layers: KVLayers, block_ids: torch.Tensor, staging: torch.Tensor) -> None:
    """Collect blocks of all layers in a contiguous buffer.

    Moves `2 n num_layers block_bytes` bytes, `block_bytes` being those of a block in one layer: its floor is
    that over the bandwidth. On a GPU it is one launch, allocates nothing and does not wait.

    Args:
        layers: of any `KVLayout`.
        block_ids: `[n]` (int64) blocks, none twice.
        staging: `[n, num_layers, 2, num_kv_heads, block_size, head_dim]`, contiguous, of the layers' dtype
            and on their device; to be written. Whatever the layout, it is the `HND` one inside a block.

    Raises:
        KernelInputError: shapes, dtypes, devices, strides or alignment that do not fit; on the CPU, and
            under `debugging.checking_contents`, also blocks that are not there, or twice. Nothing was
            written.
    """
    _check(layers, block_ids, staging)
    if not len(block_ids):
        return
    with torch.no_grad():
        if backend_of(staging) == "gpu":
            from pagedkv.kernels.block_staging import gpu
            from pagedkv.kernels.launch import Target

            for launch in gpu.gather_launches(layers, block_ids, staging, Target.of(staging.device)):
                launch.run()
        else:
            from pagedkv.kernels.block_staging import cpu

            cpu.block_gather(layers, block_ids, staging)


def block_scatter(staging: torch.Tensor, layers: KVLayers, block_ids: torch.Tensor) -> None:
    """Put blocks of all layers back from a contiguous buffer; as `block_gather`, the other way.

    Args:
        staging: `[n, num_layers, 2, num_kv_heads, block_size, head_dim]`, contiguous, as `block_gather` left
            it.
        layers: to be written; of any `KVLayout`, which need not be the one that was gathered from.
        block_ids: `[n]` (int64) blocks, none twice.

    Raises:
        KernelInputError: as for `block_gather`.
    """
    _check(layers, block_ids, staging)
    if not len(block_ids):
        return
    with torch.no_grad():
        if backend_of(staging) == "gpu":
            from pagedkv.kernels.block_staging import gpu
            from pagedkv.kernels.launch import Target

            for launch in gpu.scatter_launches(staging, layers, block_ids, Target.of(staging.device)):
                launch.run()
        else:
            from pagedkv.kernels.block_staging import cpu

            cpu.block_scatter(staging, layers, block_ids)


def _check(layers: KVLayers, block_ids: torch.Tensor, staging: torch.Tensor) -> None:
    kv = layers.tensors[0]
    check_indices("block_ids", block_ids, (block_ids.numel(),), kv)
    check_pool("a layer", kv)
    shape = (len(block_ids), len(layers), *kv.shape[1:])
    if tuple(staging.shape) != shape:
        raise KernelInputError(f"staging has the shape {list(staging.shape)}; it must be {list(shape)}")
    if staging.dtype != kv.dtype:
        raise KernelInputError(f"staging is {staging.dtype} and KV {kv.dtype}; they must match")
    if staging.device != kv.device:
        raise KernelInputError(f"staging is on {staging.device} and KV on {kv.device}; move one")
    if not staging.is_contiguous():
        raise KernelInputError(f"staging has the strides {staging.stride()}; it must be contiguous")
    if is_looking(kv):
        check_range("block_ids", block_ids, kv.shape[0], what="blocks")
        check_unique("block_ids", block_ids)
