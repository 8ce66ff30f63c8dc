"""What a request asks of sampling, with the names that other engines use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from pagedkv.checks import require_bool, require_int, require_number
from pagedkv.errors import ConfigError

__all__ = ["SamplingParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the tokens of a request are chosen, and when it ends.

    Args:
        max_tokens: tokens to generate at most, for each sample; None for as many as the model has room for.
        temperature: what logits are divided by; 0 takes the likeliest token.
        top_k: sample from the `top_k` likeliest tokens; 0 from all.
        top_p: sample from the likeliest tokens that have this much probability together; 1 from all.
        repetition_penalty: divides positive logits, and multiplies negative ones, of tokens that are in the
            prompt or were generated; 1 changes nothing.
        seed: makes the request repeat, whatever runs beside it; None draws one.
        n: samples, which share the prompt's blocks; with beams, how many of them are returned.
        beam_width: beams of a beam search; 1 for none. Beams are not sampled: temperature, top_k, top_p and
            seed mean nothing to them.
        length_penalty: a beam's score is its log-probability divided by its length to this power.
        early_stopping: end a beam search when `beam_width` beams have ended, not when none could do better.
        stop: texts that end a sample; they are left out of its text.
        stop_token_ids: tokens that end a sample, besides the model's own.
        ignore_eos: go on behind the model's end tokens.
        logprobs: report the log-probability of each token, and of so many likeliest ones; None for none.
        skip_special_tokens: leave special tokens out of the text.

    Raises:
        ConfigError: a value outside its range, or values that contradict each other.
    """

    max_tokens: int | None = 16
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    n: int = 1
    beam_width: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        if self.max_tokens is not None:
            require_int("max_tokens", self.max_tokens, 1)
        require_int("top_k", self.top_k, 0)
        require_int("n", self.n, 1)
        require_int("beam_width", self.beam_width, 1)
        if self.seed is not None:
            require_int("seed", self.seed, 0, 2**64 - 1)
        if self.logprobs is not None:
            require_int("logprobs", self.logprobs, 0)
        require_number("temperature", self.temperature, 0, math.inf)
        require_number("top_p", self.top_p, 0, 1)
        require_number("repetition_penalty", self.repetition_penalty, 0, math.inf)
        require_number("length_penalty", self.length_penalty, -math.inf, math.inf)
        for name, low in (("top_p", self.top_p), ("repetition_penalty", self.repetition_penalty)):
            if low == 0:
                raise ConfigError(f"{name} is 0; it must be above 0")
        for name in ("early_stopping", "ignore_eos", "skip_special_tokens"):
            require_bool(name, getattr(self, name))
        self._check_stops()
        if self.beam_width > 1 and self.n > self.beam_width:
            raise ConfigError(
                f"n is {self.n} and beam_width {self.beam_width}; a search has no more results than beams"
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def num_sequences(self) -> int:
        """Sequences that run at once for it: samples, or beams."""
        return self.beam_width if self.beam_width > 1 else self.n

    def _check_stops(self) -> None:
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise ConfigError(f"stop is {self.stop!r}; it must be texts, none of them empty")
        for token in self.stop_token_ids:
            require_int("a stop token id", token, 0)

    def __repr__(self) -> str:
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return f"SamplingParams({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in changed)})"
