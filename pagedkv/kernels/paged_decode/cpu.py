"""paged_decode in torch: every sequence's query tokens read its whole table."""

import numpy as np
import torch

from pagedkv.kernels.cpu_attention.run import Attention
from pagedkv.kernels.cpu_attention.tasks import Int64s, Segments
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.plan import AttentionPlan, planned
from pagedkv.kernels.workspace import Workspace

__all__ = ["NUMEL_PER_THREAD", "paged_decode"]

NUMEL_PER_THREAD = 1 << 20
"""Numbers of keys and values that are gathered at once, so few that they are read again from a cache."""


def paged_decode(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    workspace: Workspace | None = None,
    plan: AttentionPlan | None = None,
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_decode`, which checks them."""
    attention = Attention(query.flatten(0, 1), kv, options, numel_per_thread=NUMEL_PER_THREAD)
    key = "decode", query.shape[1], attention.key
    batches = planned(
        plan,
        key,
        (block_tables, seq_lens),
        lambda: attention.batches(block_tables, *_reads(seq_lens, query.shape[1])),
    )
    attention.run(batches, out, workspace)


def _reads(seq_lens: torch.Tensor, query_len: int) -> tuple[Int64s, Segments]:
    """Positions of all query tokens, and what they read."""
    lengths, batch = seq_lens.numpy().astype(np.int64), len(seq_lens)
    positions = (lengths[:, None] - query_len + np.arange(query_len)).reshape(-1)
    sequences = np.arange(batch)
    return positions, Segments(
        table=sequences,
        row=sequences * query_len,
        num_rows=np.full(batch, query_len),
        start=np.zeros(batch, np.int64),
        stop=lengths,
    )
