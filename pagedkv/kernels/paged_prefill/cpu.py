"""paged_prefill in torch: a chunk in tiles, each reading its sequence's table up to its last token."""

import numpy as np
import torch

from pagedkv.kernels.cpu_attention.run import Attention
from pagedkv.kernels.cpu_attention.tasks import Int64s, Segments
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.plan import AttentionPlan, planned
from pagedkv.kernels.workspace import Workspace

__all__ = ["NUMEL_PER_THREAD", "paged_prefill"]

NUMEL_PER_THREAD = 2 << 20
"""Numbers of keys and values that are gathered at once; a tile of queries works long on them."""


def paged_prefill(
    query: torch.Tensor,
    query_starts: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    workspace: Workspace | None = None,
    plan: AttentionPlan | None = None,
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_prefill`, which checks them."""
    attention = Attention(query, kv, options, numel_per_thread=NUMEL_PER_THREAD)
    key = "prefill", attention.key
    batches = planned(
        plan,
        key,
        (query_starts, block_tables, seq_lens),
        lambda: attention.batches(block_tables, *_reads(query_starts, seq_lens, len(query))),
    )
    attention.run(batches, out, workspace)


def _reads(query_starts: torch.Tensor, seq_lens: torch.Tensor, num_tokens: int) -> tuple[Int64s, Segments]:
    """Positions of all query tokens, and what they read."""
    starts, lengths = (numbers.numpy().astype(np.int64) for numbers in (query_starts, seq_lens))
    query_lens = np.diff(starts)
    # Token t of the batch is token t - starts[i] of its chunk, which ends with the sequence; behind the last
    # chunk are tokens of no sequence.
    positions = np.full(num_tokens, -1)
    positions[: starts[-1]] = np.arange(starts[-1]) + np.repeat(lengths - starts[1:], query_lens)
    return positions, Segments(
        table=np.arange(len(lengths)),
        row=starts[:-1],
        num_rows=query_lens,
        start=np.zeros_like(lengths),
        stop=lengths,
    )
