"""Attention of the last few tokens of each sequence over its block table."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.attention_checks import check_attention, check_contents
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import is_looking
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.plan import AttentionPlan, planned
from pagedkv.kernels.workspace import Workspace

__all__ = ["check_decode", "paged_decode"]


def paged_decode(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor | None = None,
    workspace: Workspace | None = None,
    split_size: int | None = None,
    plan: AttentionPlan | None = None,
) -> torch.Tensor:
    """Attend from the last tokens of each sequence.

    Query token i of a sequence of n tokens stands at position `n - query_len + i` and sees itself and what is
    before it; its own key and value are in the cache already. Where there is no such position, as in an empty
    sequence that pads a batch, the output is zeros. On a GPU nothing waits for the device, and with `out` and
    `workspace` nothing is allocated. There are no gradients.

    Args:
        query: `[batch, query_len, num_query_heads, head_dim]` (float32, float16, bfloat16).
        kv: one layer, `[num_blocks, 2, num_kv_heads, block_size, head_dim]`, of query's dtype or
            `FP8_DTYPE`.
        block_tables: `[batch, max_blocks]` (int32); entries behind a sequence's last block are not read
            through.
        seq_lens: `[batch]` (int32) tokens in the cache, the query's included.
        options: scale, window, cap, sinks, scales of KV.
        out: as query, written; None makes one.
        workspace: scratch memory to reuse; None takes some for this call.
        split_size: tokens of a split, rounded up to whole tiles, on the GPU. With it, the result of a
            sequence does not depend on what else is in the batch, or on the width of the table, bit for bit;
            scratch memory grows with the table. None splits as fits the GPU.
        plan: what the calls of one forward share on the CPU, see there; None plans for this call.

    Returns:
        `out`.

    Raises:
        KernelInputError: arguments that do not fit together, before anything is launched.
    """
    out = torch.empty_like(query) if out is None else out
    check_decode(
        query,
        kv,
        block_tables,
        seq_lens,
        options,
        out=out,
        workspace=workspace,
        split_size=split_size,
        plan=plan,
    )
    if query.numel() == 0:
        return out
    with torch.no_grad():
        if backend_of(query) == "gpu":
            from pagedkv.kernels.launch import Target
            from pagedkv.kernels.paged_decode import gpu

            for launch in gpu.launches(
                query,
                kv,
                block_tables,
                seq_lens,
                options,
                out=out,
                workspace=workspace,
                split_size=split_size,
                target=Target.of(query.device),
            ):
                launch.run()
        else:
            from pagedkv.kernels.paged_decode import cpu

            cpu.paged_decode(
                query, kv, block_tables, seq_lens, options, out=out, workspace=workspace, plan=plan
            )
    return out


def check_decode(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    workspace: Workspace | None,
    split_size: int | None,
    plan: AttentionPlan | None = None,
) -> None:
    """Check the arguments of a decode.

    Raises:
        KernelInputError: what is wrong with them.
    """
    if query.ndim != 4 or query.shape[1] < 1:
        raise KernelInputError(
            f"query has the shape {list(query.shape)}; it must be "
            "[batch, query_len, num_query_heads, head_dim]"
        )
    check_attention(query, kv, block_tables, seq_lens, options, out, workspace)
    if query.shape[0] != seq_lens.shape[0]:
        raise KernelInputError(
            f"query has {query.shape[0]} sequences and seq_lens {seq_lens.shape[0]}; they must match"
        )
    if split_size is not None and (not isinstance(split_size, int) or split_size < 1):
        raise KernelInputError(f"split_size is {split_size!r}; it must be a positive int, or None")
    if is_looking(query):
        contents = ("contents", kv.shape[0], kv.shape[3])
        planned(plan, contents, (block_tables, seq_lens), lambda: check_contents(kv, block_tables, seq_lens))
