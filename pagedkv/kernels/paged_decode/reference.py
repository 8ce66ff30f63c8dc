"""paged_decode in plain words: a sequence at a time."""

import torch

from pagedkv.kernels.attention_reference import attend, cached_tokens
from pagedkv.kernels.options import AttentionOptions

__all__ = ["paged_decode"]


def paged_decode(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    options: AttentionOptions,
    *,
    out: torch.Tensor,
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_decode`, in float64 too."""
    for i, seq_len in enumerate(seq_lens.tolist()):
        keys, values = cached_tokens(kv, block_tables[i], seq_len, options, query.dtype)
        out[i] = attend(query[i], keys, values, options)
