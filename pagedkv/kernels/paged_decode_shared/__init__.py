"""Decode of sequences that share prefixes: the shared blocks are read once for all of them."""

from itertools import pairwise

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.debugging import is_checking
from pagedkv.kernels.dispatch import backend_of
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
        split_size: as for `paged_decode`, for the prefixes and for what follows them.

    Returns:
        `out`.

    Raises:
        KernelInputError: arguments that do not fit together, before anything is launched.
    """
    out = torch.empty_like(query) if out is None else out
    check_decode(query, kv, block_tables, seq_lens, options, out=out, split_size=split_size)
    _check_prefixes(prefixes, query)
    if is_checking():
        _check_contents(prefixes, block_tables, seq_lens, kv.shape[3])
    if query.numel() == 0:
        return out
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
    if prefixes.max_group_size < 1:
        raise KernelInputError(f"max_group_size is {prefixes.max_group_size}; it must be positive")


def _check_contents(
    prefixes: SharedPrefixes, block_tables: torch.Tensor, seq_lens: torch.Tensor, block_size: int
) -> None:
    """Check what the groups say of the tables; it waits for the device."""
    starts, lens = prefixes.group_starts.tolist(), prefixes.prefix_lens.tolist()
    sizes = [stop - start for start, stop in pairwise(starts)]
    if starts[0] != 0 or starts[-1] != len(lens) or any(size < 0 for size in sizes):
        raise KernelInputError(f"group_starts is {starts}; it must rise from 0 to the {len(lens)} sequences")
    if sizes and max(sizes) > prefixes.max_group_size:
        raise KernelInputError(
            f"a group has {max(sizes)} sequences and max_group_size is {prefixes.max_group_size}: raise it"
        )
    for start, stop in pairwise(starts):
        for i in range(start, stop):
            _check_member(i, start, lens, block_tables, seq_lens, block_size)


def _check_member(
    i: int, first: int, lens: list[int], block_tables: torch.Tensor, seq_lens: torch.Tensor, block_size: int
) -> None:
    prefix, length = lens[i], int(seq_lens[i])
    if prefix != lens[first] or prefix < 0 or prefix % block_size or prefix > length:
        raise KernelInputError(
            f"prefix_lens[{i}] is {prefix}; it must equal prefix_lens[{first}] = {lens[first]} of its group, "
            f"be a multiple of {block_size}, and not exceed the sequence's {length} tokens"
        )
    num_shared = prefix // block_size
    if not torch.equal(block_tables[i, :num_shared], block_tables[first, :num_shared]):
        raise KernelInputError(
            f"the first {num_shared} blocks of sequences {first} and {i} differ, and prefix_lens says that "
            "they are shared"
        )
