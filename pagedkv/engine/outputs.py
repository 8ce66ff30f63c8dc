"""What a caller gets: requests with their completions, in the shapes that people know from vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass

from pagedkv.request import RequestId
from pagedkv.sampling.sampled import TokenLogprobs
from pagedkv.scheduler import FinishReason, RequestState

__all__ = ["CompletionOutput", "RequestMetrics", "RequestOutput"]

_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionOutput:
    """One sample or beam of a request; in a stream, what is new of it.

    Attributes:
        index: its place among the request's samples; of beams, the best one has 0.
        text: what the tokens say, without a token or a text that ended it; empty without a tokenizer.
        token_ids: the tokens that were generated, with the one that ended it.
        finish_reason: "stop" for an end token or a stop text, "length", "abort"; None if it goes on.
        cumulative_logprob: the sum of the tokens' log-probabilities, of beams and where
            `SamplingParams.logprobs` asks for them.
        logprobs: of each token, where `SamplingParams.logprobs` asks for them.
    """

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: FinishReason | None
    cumulative_logprob: float | None = None
    logprobs: Sequence[TokenLogprobs] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMetrics:
    """When what happened to a request, in seconds on the engine's clock, and what it cost.

    Attributes:
        arrival_s: when it was added.
        first_scheduled_s: when its first step began; None before.
        first_token_s: when its first token came; None before.
        finished_s: when it ended; None before.
        num_cached_tokens: prompt tokens that it found in the cache.
        num_preemptions: how often it lost its blocks.
        num_lost_tokens: computed tokens that it lost with them.
    """

    arrival_s: float
    first_scheduled_s: float | None
    first_token_s: float | None
    finished_s: float | None
    num_cached_tokens: int
    num_preemptions: int
    num_lost_tokens: int

    @classmethod
    def of(cls, state: RequestState) -> "RequestMetrics":
        """Those of a request as it is now."""
        return cls(
            arrival_s=state.arrival_ns / _NS_PER_S,
            first_scheduled_s=_seconds(state.first_scheduled_ns),
            first_token_s=_seconds(state.first_token_ns),
            finished_s=_seconds(state.finished_ns),
            num_cached_tokens=state.num_cached_tokens,
            num_preemptions=state.num_preemptions,
            num_lost_tokens=state.num_lost_tokens,
        )

    @property
    def time_to_first_token_s(self) -> float | None:
        """From its arrival to its first token; None before that."""
        return None if self.first_token_s is None else self.first_token_s - self.arrival_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutput:
    """A request that has ended, or what is new of one that streams.

    Attributes:
        request_id: its id.
        prompt: its text, if it came as text.
        prompt_token_ids: its tokens; empty where they are not known.
        outputs: its samples or beams; in a stream, those with something new.
        finished: whether it has ended.
        metrics: when what happened to it.
    """

    request_id: RequestId
    prompt: str | None
    prompt_token_ids: Sequence[int]
    outputs: Sequence[CompletionOutput]
    finished: bool
    metrics: RequestMetrics


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / _NS_PER_S
