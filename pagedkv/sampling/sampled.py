"""What sampling has brought, by place in `ScheduledStep.sampling()`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pagedkv.block_ids import Int32s

__all__ = ["Sampled", "TokenLogprobs"]


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """How likely a token was, before temperature, penalties and cuts.

    Attributes:
        token_id: the token that was taken.
        logprob: its natural log-probability.
        top: the likeliest tokens with theirs, best first, as many as `SamplingParams.logprobs` asks for.
    """

    token_id: int
    logprob: float
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Next tokens of a step. Keys are places in `ScheduledStep.sampling()`.

    Attributes:
        token_ids: a token for each place; 0 where `branches` or `candidates` say more.
            Shape `[num_sampled]` (int32).
        branches: first tokens of a request's samples, one for each.
        candidates: for beams, the likeliest next tokens with their log-probabilities, best first, at least
            twice as many as the search has beams (or all there are).
        logprobs: for requests with `SamplingParams.logprobs`: one for the token, or one for each branch.
    """

    token_ids: Int32s
    branches: Mapping[int, Sequence[int]] = field(default_factory=dict)
    candidates: Mapping[int, Sequence[tuple[int, float]]] = field(default_factory=dict)
    logprobs: Mapping[int, Sequence[TokenLogprobs]] = field(default_factory=dict)
