"""Attention of one sequence, in plain words: what every kernel's result is compared with."""

import torch

from pagedkv.kernels.options import AttentionOptions

__all__ = ["attend", "cached_tokens"]


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, options: AttentionOptions
) -> torch.Tensor:
    """Attend from the last tokens of a sequence to the whole of it, a head at a time.

    Args:
        query: `[query_len, num_query_heads, head_dim]`, of any float dtype; so are keys and values.
        keys: `[num_tokens, num_kv_heads, head_dim]`, in the sequence's order.
        values: as keys.
        options: scale, window, cap, sinks; the scales of KV are applied already.

    Returns:
        `[query_len, num_query_heads, head_dim]`. Zeros for a query token before the sequence's first.
    """
    query_len, num_query_heads, _ = query.shape
    group_size = num_query_heads // keys.shape[1]
    positions = torch.arange(len(keys) - query_len, len(keys), device=query.device)
    age = positions[:, None] - torch.arange(len(keys), device=query.device)
    is_seen = age >= 0
    if options.sliding_window is not None:
        is_seen &= age < options.sliding_window
    out = torch.zeros_like(query)
    for head in range(num_query_heads):
        scores = query[:, head] @ keys[:, head // group_size].T * options.scale
        if options.soft_cap is not None:
            scores = options.soft_cap * torch.tanh(scores / options.soft_cap)
        scores = scores.masked_fill(~is_seen, -torch.inf)
        if options.sinks is not None:
            sink = options.sinks[head].to(scores.dtype).expand(query_len, 1)
            scores = torch.cat([scores, sink], dim=1)
        weights = scores.softmax(dim=1)[:, : len(keys)]
        out[:, head] = weights @ values[:, head // group_size]
    out[positions < 0] = 0
    return out


def cached_tokens(
    kv: torch.Tensor, block_table: torch.Tensor, seq_len: int, options: AttentionOptions, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """The keys and values of a sequence's tokens, in order.

    Args:
        kv: one layer, `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.
        block_table: `[max_blocks]` (int32); entries behind the last block are not looked at.
        seq_len: tokens of the sequence.
        options: has the scales of KV.
        dtype: of the result.

    Returns:
        Keys and values, each `[seq_len, num_kv_heads, head_dim]`.
    """
    tokens = torch.arange(seq_len, device=kv.device)
    blocks = block_table[tokens // kv.shape[3]].long()
    keys, values = (kv[blocks, part, :, tokens % kv.shape[3]].to(dtype) for part in (0, 1))
    return keys * options.k_scale, values * options.v_scale
