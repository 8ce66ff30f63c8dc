"""Blocks whose offset, in elements, does not fit 32 bits."""

import torch

from pytest_pagedkv.conformance.kernels.adapter import AttentionOptions, KernelAdapter
from pytest_pagedkv.conformance.kernels.buffers import dtype_named
from pytest_pagedkv.conformance.kernels.calling import call
from pytest_pagedkv.conformance.kernels.oracle import attend_exactly
from pytest_pagedkv.conformance.searching import path_of
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["check_far_blocks", "needed_bytes"]

_REACH = 1 << 31
_SPARE_BLOCKS = 4
_WRONG_BLOCK = 0.1  # rounding is far below, another block's content far above


def needed_bytes(adapter: type[KernelAdapter]) -> int:
    """What `check_far_blocks` allocates, in bytes; most of it is never touched."""
    return 2 * _REACH * int(_smallest(adapter).itemsize)


def _smallest(adapter: type[KernelAdapter]) -> torch.dtype:
    return min((dtype_named(name) for name in adapter.dtypes), key=lambda dtype: dtype.itemsize)


def check_far_blocks(adapter: KernelAdapter) -> None:
    """Decode over the last blocks of a pool of more than 2**31 elements.

    There is as much memory before the pool, so that an offset that has become negative reads what is there.

    Raises:
        InvariantViolation: the output is not that of those blocks.
    """
    kv = _far_pool(adapter)
    num_blocks, _, num_heads, size, dim = kv.shape
    table = [num_blocks - 1, num_blocks - 2]
    random = torch.Generator().manual_seed(0)
    kv[table] = torch.randn((2, 2, num_heads, size, dim), generator=random).to(kv)
    query = torch.randn((1, adapter.query_lens[0], num_heads, dim), generator=random).to(kv)
    out, options = torch.empty_like(query), AttentionOptions(scale=dim**-0.5)
    tables, lens = (torch.tensor(made, dtype=torch.int32, device=kv.device) for made in ([table], [2 * size]))
    call(adapter, "paged_decode", query, kv, tables, lens, out, options)
    keys, values = kv[table].double().permute(1, 0, 3, 2, 4).flatten(1, 2).cpu().numpy()
    exact = torch.from_numpy(attend_exactly(query[0].double().cpu().numpy(), keys, values, options))
    error = float((out[0].double().cpu() - exact).abs().max())
    if not error < _WRONG_BLOCK:
        raise InvariantViolation(
            "no-stray-read",
            f"a sequence with the table {table}, in a pool of {num_blocks} blocks ({kv.numel()} elements), "
            f"has an error of {error:.3g}: it reads other blocks. Offsets do not fit 32 bits there",
            adapter=path_of(type(adapter)),
            call="paged_decode",
        )


def _far_pool(adapter: KernelAdapter) -> torch.Tensor:
    """The pool, at the end of uninitialised memory."""
    order, num_heads = adapter.layouts[0].value, adapter.num_kv_heads[-1]
    size, dim = adapter.block_sizes[-1], adapter.head_dims[-1]
    block_numel = 2 * num_heads * size * dim
    shape = (_REACH // block_numel + _SPARE_BLOCKS, 2, num_heads, size, dim)
    numel = shape[0] * block_numel
    memory = torch.empty(_REACH + numel, dtype=_smallest(type(adapter)), device=adapter.device)
    in_memory = memory[-numel:].view([shape[axis] for axis in order])
    return in_memory.permute([order.index(axis) for axis in range(len(shape))])
