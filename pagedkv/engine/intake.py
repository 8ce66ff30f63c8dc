"""From what callers ask for to requests that a scheduler takes, or a refusal that says why not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pagedkv.block_ids import Int32s
from pagedkv.block_manager.token_ids import TokenIds
from pagedkv.config import CacheConfig
from pagedkv.errors import ConfigError, InvalidRequest, RequestRefused, TokenizerMissing
from pagedkv.request import KeyPrompt, Prompt, Request, RequestId, TokenPrompt
from pagedkv.sampling.beam_search import BeamSearch
from pagedkv.sampling.detokenizer import Tokenizer
from pagedkv.sampling.params import SamplingParams

__all__ = ["AnyPrompt", "Intake", "ModelLimits", "Taken"]

AnyPrompt = str | TokenIds | Prompt
"""A text, its token ids, or a prompt that is one already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What a model takes.

    Args:
        end_token_ids: tokens that end a text.
        max_model_len: tokens of a prompt and what is generated behind it, at most; None for no bound.
        vocab_size: token ids are below it; None for not known.

    Raises:
        ConfigError: a number that is not positive.
    """

    end_token_ids: Sequence[int] = ()
    max_model_len: int | None = None
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_model_len", "vocab_size"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} is {value!r}; it must be an int of at least 1, or None")


class Taken(NamedTuple):
    """A request, ready for the scheduler.

    Attributes:
        request: the request.
        text: of its prompt, if it came as one.
        params: how its tokens are chosen, with every one settled.
        search: its beam search, if it is one.
    """

    request: Request
    text: str | None
    params: SamplingParams
    search: BeamSearch | None


class Intake:
    """Makes requests out of prompts and sampling parameters.

    Args:
        cache: the cache that they will use.
        limits: what the model takes.
        tokenizer: for texts; None if there is none.
        seed: makes the seeds repeat that are drawn for requests without one.
    """

    def __init__(
        self, cache: CacheConfig, limits: ModelLimits, tokenizer: Tokenizer | None, seed: int | None
    ) -> None:
        self._cache = cache
        self._limits = limits
        self._tokenizer = tokenizer
        self._seeds = np.random.default_rng(seed)

    def take(
        self,
        request_id: RequestId,
        prompt: AnyPrompt,
        params: SamplingParams,
        *,
        priority: int,
        namespace: str,
    ) -> Taken:
        """The request, with every parameter settled.

        Raises:
            TokenizerMissing: there is text to read or to find, and no tokenizer.
            InvalidRequest: the prompt is empty, or is no prompt, or has a token that the model does not know.
            RequestRefused: the prompt leaves the model no room.
            ConfigError: parameters that do not go together.
        """
        self._check(params)
        ready = self._prompt(prompt, namespace)
        max_tokens = self._max_tokens(ready, params)
        seed = int(self._seeds.integers(2**63)) if params.seed is None else params.seed
        settled = replace(params, max_tokens=max_tokens, seed=seed)
        request = Request(
            request_id=request_id,
            prompt=ready,
            max_tokens=max_tokens,
            num_sequences=params.num_sequences,
            priority=priority,
            stop_token_ids=self._end_token_ids(params),
            sampling=settled,
        )
        search = BeamSearch(settled, request.stop_token_ids, max_tokens) if params.beam_width > 1 else None
        return Taken(request, prompt if isinstance(prompt, str) else None, settled, search)

    def _end_token_ids(self, params: SamplingParams) -> tuple[int, ...]:
        own = () if params.ignore_eos else self._limits.end_token_ids
        return tuple(dict.fromkeys((*own, *params.stop_token_ids)))

    def _check(self, params: SamplingParams) -> None:
        if not isinstance(params, SamplingParams):
            raise ConfigError(f"params are {params!r:.80}; they must be SamplingParams")
        if params.stop and self._tokenizer is None:
            raise TokenizerMissing(
                f"stop is {params.stop!r:.80}, and the model has no tokenizer to find texts with; "
                "stop_token_ids work without"
            )
        if params.beam_width > 1 and (params.stop or params.logprobs is not None):
            raise ConfigError(
                f"beam_width is {params.beam_width}, and stop or logprobs is set: a beam ends with a token "
                "(stop_token_ids), and has one log-probability, cumulative_logprob"
            )

    def _prompt(self, prompt: AnyPrompt, namespace: str) -> Prompt:
        by_ids = self._cache.prefix_keys == "ids"
        if isinstance(prompt, KeyPrompt):
            if not by_ids:
                raise InvalidRequest(
                    "the prompt is a KeyPrompt, of block ids; the cache compares tokens, and takes them only "
                    'with CacheConfig(prefix_keys="ids")'
                )
            return prompt
        if by_ids:
            raise InvalidRequest(
                'the cache has prefix_keys="ids", so a prompt must be a KeyPrompt, '
                f"not {type(prompt).__name__}"
            )
        ready = prompt if isinstance(prompt, TokenPrompt) else TokenPrompt(self._tokens(prompt), namespace)
        self._require_known(ready.token_ids)
        return ready

    def _tokens(self, prompt: str | TokenIds) -> TokenIds:
        if not isinstance(prompt, str):
            return prompt
        if self._tokenizer is None:
            raise TokenizerMissing(
                f"the prompt is text ({prompt!r:.40}), and the model has no tokenizer; "
                "give the prompt as a list of token ids"
            )
        if not prompt:
            raise InvalidRequest("the prompt is empty; it must have at least one token")
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"character {error.start} of the prompt is {prompt[error.start]!r}, half of a character: "
                "decode bytes as UTF-8, or give token ids"
            ) from None
        return self._tokenizer.encode(prompt)

    def _require_known(self, token_ids: Int32s) -> None:
        size = self._limits.vocab_size
        if size is None:
            return
        unknown = np.flatnonzero((token_ids < 0) | (token_ids >= size))
        if len(unknown):
            place = int(unknown[0])
            raise InvalidRequest(
                f"token {token_ids[place]} at position {place} of the prompt is not in the model's "
                f"vocabulary, which has the ids 0 to {size - 1}"
            )

    def _max_tokens(self, prompt: Prompt, params: SamplingParams) -> int:
        longest = self._limits.max_model_len
        if longest is None:
            return params.max_tokens or self._pool_room(prompt, params.num_sequences)
        room = longest - prompt.num_tokens
        if room < 1:
            raise RequestRefused(
                prompt.num_tokens + 1,
                longest,
                "tokens",
                f"the prompt has {prompt.num_tokens} tokens, and the model takes {longest} together with "
                "what it generates, at least one: shorten the prompt",
            )
        return min(params.max_tokens or self._pool_room(prompt, params.num_sequences), room)

    def _pool_room(self, prompt: Prompt, num_sequences: int) -> int:
        """Tokens that each sequence could generate if it had the pool to itself; at least 1.

        The turned around `Request.num_blocks`.
        """
        size, num_blocks = self._cache.block_size, self._cache.num_blocks
        shared = prompt.num_tokens // size if num_sequences > 1 else 0
        longest = shared + (num_blocks - shared) // num_sequences
        return max(1, longest * size - prompt.num_tokens + 1)
