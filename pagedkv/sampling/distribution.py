"""From scores of tokens to tokens: what is kept of a distribution, and how one is drawn from it."""

import torch

__all__ = ["draw", "keep_top_k", "keep_top_p", "likeliest"]

_SCALE = 2.0**40  # probabilities become integers, whose sums are the same in every order
_SHORTLIST = 512  # tokens that hold `top_p` of most distributions


def likeliest(scores: torch.Tensor) -> torch.Tensor:
    """The token with the highest score in each row, the lowest id of several; -1 where none is finite.

    Args:
        scores: `[rows, vocab]`, any float dtype.

    Returns:
        `[rows, 1]` (int64).
    """
    token_ids = scores.argmax(-1, keepdim=True)
    return token_ids.masked_fill(~scores.gather(1, token_ids).isfinite(), -1)


def keep_top_k(scores: torch.Tensor, top_k: torch.Tensor, largest: int) -> torch.Tensor:
    """Rule out what scores lower than the k-th best of its row; what ties with that is kept.

    Args:
        scores: `[rows, vocab]`.
        top_k: k of each row, at least 1, at most the vocabulary. Shape `[rows, 1]` (int64).
        largest: the largest k.

    Returns:
        As `scores`, with minus infinity for what is ruled out.
    """
    worst = scores.topk(largest).values.gather(1, top_k - 1)
    return scores.masked_fill(scores < worst, -torch.inf)


def keep_top_p(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Rule out tokens when those that are likelier have `top_p` of the probability already.

    Tokens that are equally likely are kept or ruled out together.

    Args:
        probabilities: `[rows, vocab]` (float32).
        top_p: of each row. Shape `[rows, 1]` (float64).

    Returns:
        As `probabilities`, with zeros for what is ruled out; rows do not add up to 1 any more.
    """
    target = _as_integers(probabilities).sum(-1, keepdim=True) * top_p
    best = probabilities.topk(min(_SHORTLIST, probabilities.shape[1])).values
    if bool((_as_integers(best).sum(-1, keepdim=True) < target).any()):
        best = probabilities.sort(dim=-1, descending=True).values
    masses = _as_integers(best)
    num_kept = ((masses.cumsum(-1) - masses) < target).sum(-1, keepdim=True)
    worst = best.gather(1, (num_kept - 1).clamp(min=0))
    return probabilities.masked_fill(probabilities < worst, 0)


def draw(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The tokens at these quantiles of each row.

    A row's tokens depend on nothing but the row and its numbers: the sums are exact.

    Args:
        probabilities: `[rows, vocab]` (float32), adding up to 2**12 at most.
        uniforms: numbers above 0 and below 1. Shape `[rows, draws]` (float64).

    Returns:
        `[rows, draws]` (int64). Tokens without probability are never among them; -1 where all are.
    """
    masses = _as_integers(probabilities).cumsum(-1)
    total = masses[:, -1:]
    quantiles = torch.minimum((uniforms * total).long(), total - 1)
    return torch.searchsorted(masses, quantiles, right=True).masked_fill(total == 0, -1)


def _as_integers(probabilities: torch.Tensor) -> torch.Tensor:
    return (probabilities * _SCALE).long()
