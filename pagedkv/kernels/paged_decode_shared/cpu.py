"""paged_decode_shared in torch: a group's query tokens read its prefix together, then each its own rest."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedkv.kernels.cpu_attention.run import Attention
from pagedkv.kernels.cpu_attention.tasks import Segments
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode.cpu import NUMEL_PER_THREAD
from pagedkv.kernels.workspace import Workspace

if TYPE_CHECKING:
    from pagedkv.kernels.paged_decode_shared.prefixes import SharedPrefixes

__all__ = ["paged_decode_shared"]


def paged_decode_shared(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    prefixes: "SharedPrefixes",
    options: AttentionOptions,
    *,
    out: torch.Tensor,
    workspace: Workspace | None = None,
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_decode_shared`, which checks them."""
    batch, query_len = query.shape[:2]
    lengths = seq_lens.numpy().astype(np.int64)
    positions = (lengths[:, None] - query_len + np.arange(query_len)).reshape(-1)
    attention = Attention(query.flatten(0, 1), kv, options, numel_per_thread=NUMEL_PER_THREAD)
    group_starts = prefixes.group_starts.numpy().astype(np.int64)
    first, sizes = group_starts[:-1], np.diff(group_starts)
    # A group of one has nobody to share with, and an empty one may stand behind the batch.
    shared = np.where(sizes > 1, np.append(prefixes.prefix_lens.numpy(), 0)[first], 0)
    together = Segments(
        table=first,
        row=first * query_len,
        num_rows=sizes * query_len,
        start=np.zeros_like(first),
        stop=shared,
    )
    sequences = np.arange(batch)
    apart = Segments(
        table=sequences,
        row=sequences * query_len,
        num_rows=np.full(batch, query_len),
        start=np.repeat(shared, sizes),
        stop=lengths,
    )
    attention.run(attention.batches(block_tables, positions, together, apart), out, workspace)
