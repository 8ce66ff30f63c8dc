"""paged_decode_shared in plain words: what is shared says what may be read once, and changes no result."""

from typing import TYPE_CHECKING

import torch

from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode import reference

if TYPE_CHECKING:
    from pagedkv.kernels.paged_decode_shared.prefixes import SharedPrefixes

__all__ = ["paged_decode_shared"]


def paged_decode_shared(
    query: torch.Tensor,
    kv: torch.Tensor,
    block_tables: torch.Tensor,
    seq_lens: torch.Tensor,
    prefixes: "SharedPrefixes",  # noqa: ARG001  (the blocks of a prefix are in every sequence's table)
    options: AttentionOptions,
    *,
    out: torch.Tensor,
) -> None:
    """Write to `out`; arguments as for `pagedkv.kernels.paged_decode_shared`, in float64 too."""
    reference.paged_decode(query, kv, block_tables, seq_lens, options, out=out)
