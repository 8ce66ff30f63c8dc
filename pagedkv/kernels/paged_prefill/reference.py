"""paged_prefill in plain words: a sequence at a time."""

from itertools import pairwise

import torch

from pagedkv.kernels.attention_reference import attend, cached_tokens
from pagedkv.kernels.options import AttentionOptions

__all__ = ["paged_prefill"]


def paged_prefill(
    query: torch.Tensor,
    query_starts: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_prefill`, in float64 too."""
    out[query_starts[-1] :] = 0
    for i, (start, stop) in enumerate(pairwise(query_starts.tolist())):
        keys, values = cached_tokens(kv, block_tables[i], int(seq_lens[i]), options, query.dtype)
        out[start:stop] = attend(query[start:stop], keys, values, options)
