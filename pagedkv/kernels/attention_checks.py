"""Checks of the arguments that the attention kernels have in common, before anything is launched."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.workspace import Workspace
from pagedkv.kv_store import FP8_DTYPE

__all__ = ["check_attention", "check_contents"]

_QUERY_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_attention(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    out: torch.Tensor,
    workspace: Workspace | None,
    **integers: torch.Tensor,
) -> None:
    """Check shapes, dtypes, devices and strides.

    Args:
        query: `[..., num_query_heads, head_dim]`.
        kv: `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.
        block_tables: `[batch, max_blocks]` (int32).
        seq_lens: `[batch]` (int32).
        options: see there.
        out: as query.
        workspace: scratch memory, or None.
        integers: other one-dimensional int32 tensors of the call, by argument.

    Raises:
        KernelInputError: what is wrong, with the numbers, and what to do.
    """
    _check_kv(kv)
    _check_query(query, kv, out)
    if block_tables.ndim != 2:
        raise KernelInputError(
            f"block_tables has the shape {list(block_tables.shape)}; it must be [batch, max_blocks]"
        )
    if seq_lens.shape != block_tables.shape[:1]:
        raise KernelInputError(
            f"seq_lens has the shape {list(seq_lens.shape)} for {block_tables.shape[0]} rows of "
            "block_tables; each sequence has one length and one row"
        )
    _check_integers(query, block_tables=block_tables, seq_lens=seq_lens, **integers)
    _check_options(query, kv, options)
    if workspace is not None and workspace.device != query.device:
        raise KernelInputError(
            f"workspace is on {workspace.device} and query on {query.device}; make another"
        )


def _check_kv(kv: torch.Tensor) -> None:
    if kv.ndim != 5 or kv.shape[1] != 2 or not all(kv.shape[2:]):
        raise KernelInputError(
            f"kv has the shape {list(kv.shape)}; it must be "
            "[num_blocks, 2, num_kv_heads, block_size, head_dim]"
        )
    if kv.stride(-1) != 1:
        raise KernelInputError(f"kv has the strides {kv.stride()}; the head_dim elements must be contiguous")


def _check_query(query: torch.Tensor, kv: torch.Tensor, out: torch.Tensor) -> None:
    if query.dtype not in _QUERY_DTYPES:
        raise KernelInputError(
            f"query is {query.dtype}; it must be one of {', '.join(map(str, _QUERY_DTYPES))}"
        )
    if kv.dtype not in (query.dtype, FP8_DTYPE):
        raise KernelInputError(
            f"query is {query.dtype} and kv {kv.dtype}; kv must be {query.dtype} or {FP8_DTYPE}: convert one"
        )
    num_heads, head_dim = query.shape[-2:]
    if head_dim != kv.shape[4]:
        raise KernelInputError(
            f"query has heads of {head_dim} elements and kv of {kv.shape[4]}; they must match"
        )
    if num_heads == 0 or num_heads % kv.shape[2]:
        raise KernelInputError(
            f"{num_heads} query heads cannot share {kv.shape[2]} KV heads evenly: the first must be a "
            "multiple of the second"
        )
    if out.shape != query.shape or out.dtype != query.dtype:
        raise KernelInputError(
            f"out is {out.dtype} {list(out.shape)} and query {query.dtype} "
            f"{list(query.shape)}; they must match"
        )
    for name, tensor in (("kv", kv), ("out", out)):
        if tensor.device != query.device:
            raise KernelInputError(f"{name} is on {tensor.device} and query on {query.device}; move one")
    if any(size > 1 and stride == 0 for size, stride in zip(out.shape, out.stride(), strict=True)):
        raise KernelInputError(
            f"out has the strides {out.stride()}: it was expanded, and is written more than once"
        )
    for name, tensor in (("query", query), ("out", out)):
        if tensor.stride(-1) != 1:
            raise KernelInputError(
                f"{name} has the strides {tensor.stride()}; the last must be 1: contiguous()"
            )


def _check_integers(query: torch.Tensor, **integers: torch.Tensor) -> None:
    for name, tensor in integers.items():
        if tensor.dtype != torch.int32:
            raise KernelInputError(
                f"{name} is {tensor.dtype}; it must be torch.int32: convert it once, not here"
            )
        if tensor.device != query.device:
            raise KernelInputError(f"{name} is on {tensor.device} and query on {query.device}; move one")
        if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise KernelInputError(
                f"{name} has the strides {tensor.stride()}; the last must be 1: contiguous()"
            )


def _check_options(query: torch.Tensor, kv: torch.Tensor, options: AttentionOptions) -> None:
    if kv.dtype != FP8_DTYPE and (options.k_scale, options.v_scale) != (1.0, 1.0):
        raise KernelInputError(
            f"scales {options.k_scale} and {options.v_scale} with kv in {kv.dtype}; scales are for "
            f"{FP8_DTYPE}"
        )
    sinks = options.sinks
    if sinks is None:
        return
    if sinks.shape != query.shape[-2:-1] or sinks.dtype != torch.float32 or not sinks.is_contiguous():
        raise KernelInputError(
            f"sinks is {sinks.dtype} {list(sinks.shape)}; it must be contiguous torch.float32 "
            f"[num_query_heads = {query.shape[-2]}]"
        )
    if sinks.device != query.device:
        raise KernelInputError(f"sinks is on {sinks.device} and query on {query.device}; move one")


def check_contents(kv: torch.Tensor, block_tables: torch.Tensor, seq_lens: torch.Tensor) -> None:
    """Check that lengths fit the table, and that the entries they reach are blocks of the pool.

    It waits for the device: `debugging.checking_contents` asks for it.

    Raises:
        KernelInputError: the first entry that does not fit.
    """
    num_blocks, block_size = kv.shape[0], kv.shape[3]
    most = block_tables.shape[1] * block_size
    for i in ((seq_lens < 0) | (seq_lens > most)).nonzero().flatten().tolist():
        raise KernelInputError(
            f"seq_lens[{i}] is {int(seq_lens[i])}; a row of {block_tables.shape[1]} blocks of {block_size} "
            f"tokens holds 0 to {most}"
        )
    num_used = (seq_lens + block_size - 1) // block_size
    entries = torch.arange(block_tables.shape[1], device=kv.device)
    wrong = ((block_tables < 0) | (block_tables >= num_blocks)) & (entries < num_used[:, None])
    for row, entry in wrong.nonzero().tolist():
        raise KernelInputError(
            f"block_tables[{row}, {entry}] is {int(block_tables[row, entry])}; the pool has the blocks 0 to "
            f"{num_blocks - 1}, and the sequence of {int(seq_lens[row])} tokens reads that entry"
        )
