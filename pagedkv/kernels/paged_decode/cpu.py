"""paged_decode in torch: every sequence's query tokens read its whole table."""

import numpy as np
import torch

from pagedkv.kernels.cpu_attention.run import Attention
from pagedkv.kernels.cpu_attention.tasks import Segments
from pagedkv.kernels.options import AttentionOptions
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
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_decode`, which checks them."""
    batch, query_len = query.shape[:2]
    lengths, sequences = seq_lens.numpy().astype(np.int64), np.arange(batch)
    positions = lengths[:, None] - query_len + np.arange(query_len)
    attention = Attention(
        query.flatten(0, 1),
        kv,
        block_tables,
        positions.reshape(-1),
        options,
        numel_per_thread=NUMEL_PER_THREAD,
    )
    segments = Segments(
        table=sequences,
        row=sequences * query_len,
        num_rows=np.full(batch, query_len),
        start=np.zeros(batch, np.int64),
        stop=lengths,
    )
    attention.run(attention.tasks(segments), out, workspace)
