"""Attention, written twice: as plainly as possible in float64, and in torch as the yardstick for rounding."""

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_pagedkv.conformance.kernels.adapter import AttentionOptions

__all__ = ["attend_exactly", "attend_in_torch"]


def attend_exactly(
    query: "NDArray[np.float64]",
    keys: "NDArray[np.float64]",
    values: "NDArray[np.float64]",
    options: "AttentionOptions",
) -> "NDArray[np.float64]":
    """Attention of one sequence's last tokens, a query token and head at a time.

    Args:
        query: `[query_len, num_query_heads, head_dim]`.
        keys: `[num_tokens, num_kv_heads, head_dim]`, in the sequence's order, scaled.
        values: as keys.
        options: what else attention does.

    Returns:
        `[query_len, num_query_heads, head_dim]`.
    """
    query_len, num_query_heads, _ = query.shape
    sinks = None if options.sinks is None else options.sinks.double().cpu().numpy()
    out = np.empty_like(query)
    for i in range(query_len):
        position = len(keys) - query_len + i
        first = 0 if options.sliding_window is None else max(0, position - options.sliding_window + 1)
        seen = slice(first, position + 1)
        for head in range(num_query_heads):
            kv_head = head // (num_query_heads // keys.shape[1])
            scores = keys[seen, kv_head] @ query[i, head] * options.scale
            if options.soft_cap is not None:
                scores = options.soft_cap * np.tanh(scores / options.soft_cap)
            sink = -np.inf if sinks is None else sinks[head]
            top = max(scores.max(), sink)
            weights = np.exp(scores - top)
            out[i, head] = weights @ values[seen, kv_head] / (weights.sum() + np.exp(sink - top))
    return out


def attend_in_torch(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, options: "AttentionOptions"
) -> torch.Tensor:
    """The same with torch's own operations, each rounded to the dtype of its arguments."""
    query_len, num_query_heads, _ = query.shape
    ratio = num_query_heads // keys.shape[1]
    keys, values = keys.repeat_interleave(ratio, 1), values.repeat_interleave(ratio, 1)
    scores = query.transpose(0, 1) @ keys.permute(1, 2, 0) * options.scale  # [heads, query_len, num_tokens]
    if options.soft_cap is not None:
        scores = options.soft_cap * torch.tanh(scores / options.soft_cap)
    behind = torch.arange(len(keys), device=query.device)
    ahead = torch.arange(len(keys) - query_len, len(keys), device=query.device)[:, None] - behind
    hidden = ahead < 0
    if options.sliding_window is not None:
        hidden |= ahead >= options.sliding_window
    scores = scores.masked_fill(hidden, -torch.inf)
    if options.sinks is not None:
        sinks = options.sinks.to(query.dtype)[:, None, None].expand(-1, query_len, 1)
        scores = torch.cat([scores, sinks], -1)
    weights = scores.softmax(-1)[..., : len(keys)]
    return (weights @ values.transpose(0, 1)).transpose(0, 1)
