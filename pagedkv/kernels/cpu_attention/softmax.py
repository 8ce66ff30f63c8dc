"""Attention over gathered keys and values, with the logarithm of the denominator, and merging by it."""

import torch

from pagedkv.kernels.options import AttentionOptions

__all__ = ["apply_sinks", "attend", "compute_dtype", "merge"]

# scaled_dot_product_attention itself drops the logarithms.
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001


def compute_dtype(dtype: torch.dtype, options: AttentionOptions) -> torch.dtype:
    """What attention computes in for queries of a dtype.

    torch multiplies float16 slower than it converts it, and rounds scores to bfloat16 where it is not fused.
    """
    if dtype == torch.float16 or (dtype == torch.bfloat16 and options.soft_cap is not None):
        return torch.float32
    return dtype


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    options: AttentionOptions,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax of the scores times the values, without sinks.

    Args:
        query: `[num_tasks, num_kv_heads, num_rows, head_dim]`: the query heads of a KV head are rows.
        keys: `[num_tasks, num_kv_heads, num_tokens, head_dim]`, as stored.
        values: as keys.
        mask: `[num_tasks, 1, num_rows or 1, num_tokens]`, added to the scores; None for none.
        options: scale, cap, scales of KV.

    Returns:
        The attention as query, and `[num_tasks, num_kv_heads, num_rows]`, the logarithms of the denominators.
    """
    scale = options.scale * options.k_scale
    if options.soft_cap is None:
        out, lse = _flash(query, keys, values, attn_mask=mask, scale=scale)
    else:
        scores = (query @ keys.mT).mul_(scale / options.soft_cap).tanh_().mul_(options.soft_cap)
        if mask is not None:
            scores += mask
        out, lse = _softmax(scores, values)
    return (out if options.v_scale == 1 else out.mul_(options.v_scale)), lse


def _softmax(scores: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `attend`, in the memory of the scores."""
    most = scores.amax(-1, keepdim=True)
    most.masked_fill_(most == -torch.inf, 0)
    weights = scores.sub_(most).exp_()
    total = weights.sum(-1, keepdim=True)
    return (weights @ values).div_(total), total.log().add_(most)[..., 0]


def merge(
    out: torch.Tensor, lse: torch.Tensor, more: torch.Tensor, more_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over some tokens and over others, to that over both.

    Args:
        out: `[..., head_dim]`.
        lse: `[...]`; -inf where nothing was seen.
        more: as out.
        more_lse: as lse.
    """
    both = torch.logaddexp(lse, more_lse)
    base = both.masked_fill(both == -torch.inf, 0)  # nothing seen: weights of 0, not NaN
    weight, more_weight = (lse - base).exp_(), (more_lse - base).exp_()
    return out * weight[..., None] + more * more_weight[..., None], both


def apply_sinks(out: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor) -> None:
    """Enlarge the denominators by the sinks', in place.

    Args:
        out: `[num_rows, num_kv_heads, group_size, head_dim]`, written.
        lse: `[num_rows, num_kv_heads, group_size]`.
        sinks: `[num_kv_heads, group_size]`.
    """
    above = (lse - sinks).masked_fill_(lse == -torch.inf, -torch.inf)  # nothing seen, and no sink: not NaN
    out.mul_(above.sigmoid_()[..., None])
