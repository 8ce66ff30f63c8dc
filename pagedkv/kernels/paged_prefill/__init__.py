"""Causal attention of a chunk of new tokens of each sequence over its block table."""

import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.attention_checks import check_attention, check_contents
from pagedkv.kernels.dispatch import backend_of
from pagedkv.kernels.index_checks import is_looking
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.plan import AttentionPlan, planned
from pagedkv.kernels.workspace import Workspace

__all__ = ["paged_prefill"]


def paged_prefill(
    query: torch.Tensor,
    query_starts: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor | None = None,
    workspace: Workspace | None = None,
    plan: AttentionPlan | None = None,
) -> torch.Tensor:
    """Attend from a chunk of new tokens of each sequence to its cached tokens and to the chunk itself.

    Token i of a chunk of q tokens, in a sequence of n tokens, stands at position `n - q + i` and sees itself
    and what is before it; the keys and values of the chunk are in the cache already. The tokens of all
    sequences are packed behind one another; where tokens follow the last sequence's, as in a padded batch,
    the output is zeros. On a GPU nothing waits for the device, and with `out` nothing is allocated. There are
    no gradients.

    A chunk is not split along its context: for a few tokens behind a long one, `paged_decode` is quicker.

    Args:
        query: `[num_tokens, num_query_heads, head_dim]` (float32, float16, bfloat16).
        query_starts: `[batch + 1]` (int32); sequence i has the tokens `query_starts[i]:query_starts[i + 1]`,
            possibly none.
        kv: one layer, `[num_blocks, 2, num_kv_heads, block_size, head_dim]`, of query's dtype or
            `FP8_DTYPE`.
        block_tables: `[batch, max_blocks]` (int32); entries behind a sequence's last block are not read
            through.
        seq_lens: `[batch]` (int32) tokens in the cache, the chunk's included.
        options: scale, window, cap, sinks, scales of KV.
        out: as query, written; None makes one.
        workspace: scratch memory to reuse; None takes some for this call.
        plan: what the calls of one forward share on the CPU, see there; None plans for this call.

    Returns:
        `out`.

    Raises:
        KernelInputError: arguments that do not fit together, before anything is launched.
    """
    out = torch.empty_like(query) if out is None else out
    _check(query, query_starts, kv, block_tables, seq_lens, options, out, workspace, plan)
    if query.numel() == 0:
        return out
    if seq_lens.shape[0] == 0:
        return out.zero_()
    with torch.no_grad():
        if backend_of(query) == "gpu":
            from pagedkv.kernels.launch import Target
            from pagedkv.kernels.paged_prefill import gpu

            target = Target.of(query.device)
            for launch in gpu.launches(
                query, query_starts, kv, block_tables, seq_lens, options, out=out, target=target
            ):
                launch.run()
        else:
            from pagedkv.kernels.paged_prefill import cpu

            cpu.paged_prefill(
                query,
                query_starts,
                kv,
                block_tables,
                seq_lens,
                options,
                out=out,
                workspace=workspace,
                plan=plan,
            )
    return out


def _check(
    query: torch.Tensor,
    query_starts: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    out: torch.Tensor,
    workspace: Workspace | None,
    plan: AttentionPlan | None,
) -> None:
    if query.ndim != 3:
        raise KernelInputError(
            f"query has the shape {list(query.shape)}; it must be [num_tokens, num_query_heads, head_dim]"
        )
    check_attention(query, kv, block_tables, seq_lens, options, out, workspace, query_starts=query_starts)
    if query_starts.shape != (seq_lens.shape[0] + 1,):
        raise KernelInputError(
            f"query_starts has the shape {list(query_starts.shape)} for {seq_lens.shape[0]} sequences; it "
            "must have one entry more than there are sequences"
        )
    if is_looking(query):
        contents = ("contents", kv.shape[0], kv.shape[3], query.shape[0])
        indices = query_starts, block_tables, seq_lens
        planned(plan, contents, indices, lambda: _check_contents(kv, *indices, query.shape[0]))


def _check_contents(
    kv: torch.Tensor,
    query_starts: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    num_tokens: int,
) -> None:
    check_contents(kv, block_tables, seq_lens)
    _check_starts(query_starts, seq_lens, num_tokens)


def _check_starts(query_starts: torch.Tensor, seq_lens: torch.Tensor, num_tokens: int) -> None:
    query_lens = query_starts.diff()
    first, last = int(query_starts[0]), int(query_starts[-1])
    if first != 0 or last > num_tokens or bool((query_lens < 0).any()):
        raise KernelInputError(
            f"query_starts goes from {first} to {last}; it must rise from 0, to the {num_tokens} query "
            "tokens at most"
        )
    for i in (query_lens > seq_lens).nonzero().flatten().tolist():
        raise KernelInputError(
            f"sequence {i} has {int(query_lens[i])} query tokens and seq_lens[{i}] is {int(seq_lens[i])}; "
            "the query's tokens are part of the sequence"
        )
