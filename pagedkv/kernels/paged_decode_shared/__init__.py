"""Decode of sequences that share prefixes: the shared blocks are read once for all of them."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import is_looking
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode import check_decode
from pagedkv.kernels.paged_decode_shared.prefixes import SharedPrefixes
from pagedkv.kernels.workspace import Workspace

__all__ = ["SharedPrefixes", "paged_decode_shared"]


def paged_decode_shared(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    prefixes: SharedPrefixes,
    options: AttentionOptions,
    *,
    out: torch.Tensor | None = None,
    workspace: Workspace | None = None,
    split_size: int | None = None,
) -> torch.Tensor:
    """Attend from the last tokens of each sequence; what `paged_decode` computes, with fewer bytes read.

    The queries of a group attend to its shared blocks together, and each sequence to its own blocks alone;
    both parts are merged by their log-sum-exps (Cascade inference; Hydragen, arXiv:2402.05099).

    Args:
        query: as for `paged_decode`.
        kv: as for `paged_decode`.
        block_tables: as for `paged_decode`.
        seq_lens: as for `paged_decode`.
        prefixes: which sequences share how much.
        options: as for `paged_decode`.
        out: as query, written; None makes one.
        workspace: scratch memory to reuse; None takes some for this call.
        split_size: as for `paged_decode`, for the prefixes and for what follows them: results depend on what
            is shared, and on nothing else in the batch.

    Returns:
        `out`.

    Raises:
        KernelInputError: arguments that do not fit together, before anything is launched.
    """
    out = torch.empty_like(query) if out is None else out
    check_decode(
        query, kv, block_tables, seq_lens, options, out=out, workspace=workspace, split_size=split_size
    )
    _check_prefixes(prefixes, query)
    if is_looking(query):
        _check_contents(prefixes, block_tables, seq_lens, kv.shape[3])
    if query.numel() == 0:
        return out
    with torch.no_grad():
        if backend_of(query) == "gpu":
            from pagedkv.kernels.launch import Target
            from pagedkv.kernels.paged_decode_shared import gpu

            for launch in gpu.launches(
                query,
                kv,
                block_tables,
                seq_lens,
                prefixes,
                options,
                out=out,
                workspace=workspace,
                split_size=split_size,
                target=Target.of(query.device),
            ):
                launch.run()
        else:
            from pagedkv.kernels.paged_decode_shared import cpu

            cpu.paged_decode_shared(
                query, kv, block_tables, seq_lens, prefixes, options, out=out, workspace=workspace
            )
    return out


def _check_prefixes(prefixes: SharedPrefixes, query: torch.Tensor) -> None:
    batch = query.shape[0]
    starts, lens = prefixes.group_starts, prefixes.prefix_lens
    if starts.ndim != 1 or starts.shape[0] < 1 or lens.shape != (batch,):
        raise KernelInputError(
            f"group_starts has the shape {list(starts.shape)} and prefix_lens {list(lens.shape)} for {batch} "
            "sequences; they must be [num_groups + 1] and [batch]"
        )
    for name, tensor in (("group_starts", starts), ("prefix_lens", lens)):
        if tensor.dtype != torch.int32 or tensor.device != query.device or not tensor.is_contiguous():
            raise KernelInputError(
                f"{name} is {tensor.dtype} on {tensor.device}; it must be contiguous torch.int32 on "
                f"{query.device}"
            )
    if starts.shape[0] == 1 and batch:
        raise KernelInputError(f"there are {batch} sequences and no group; each sequence is in one, if alone")
    if prefixes.max_group_size < 1:
        raise KernelInputError(f"max_group_size is {prefixes.max_group_size}; it must be positive")


def _check_contents(
    prefixes: SharedPrefixes, block_tables: torch.Tensor, seq_lens: torch.Tensor, block_size: int
) -> None:
    """Check what the groups say of the tables; it waits for the device."""
    starts, lens = prefixes.group_starts.long(), prefixes.prefix_lens
    sizes = starts.diff()
    if int(starts[0]) or int(starts[-1]) != len(lens) or bool((sizes < 0).any()):
        raise KernelInputError(
            f"group_starts is {starts.tolist()}; it must rise from 0 to the {len(lens)} sequences"
        )
    if not len(lens):
        return
    if int(sizes.max()) > prefixes.max_group_size:
        raise KernelInputError(
            f"a group has {int(sizes.max())} sequences and max_group_size is "
            f"{prefixes.max_group_size}: raise it"
        )
    firsts = starts[:-1].repeat_interleave(sizes)  # of each sequence's group
    wrong = (lens != lens[firsts]) | (lens < 0) | (lens % block_size != 0) | (lens > seq_lens)
    for i in wrong.nonzero().flatten().tolist():
        first = int(firsts[i])
        raise KernelInputError(
            f"prefix_lens[{i}] is {int(lens[i])}; it must equal prefix_lens[{first}] = {int(lens[first])} "
            f"of its group, be a multiple of {block_size}, and not exceed the sequence's "
            f"{int(seq_lens[i])} tokens"
        )
    entries = torch.arange(block_tables.shape[1], device=block_tables.device)
    differs = (block_tables != block_tables[firsts]) & (entries < (lens // block_size)[:, None])
    for i in differs.any(1).nonzero().flatten().tolist():
        raise KernelInputError(
            f"the first {int(lens[i]) // block_size} blocks of sequences {int(firsts[i])} and {i} differ, "
            "and prefix_lens says that they are shared"
        )
