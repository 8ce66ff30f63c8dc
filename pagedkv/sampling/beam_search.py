"""Beam search, from the likeliest tokens of each beam to the tokens that the beams go on with."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.sampling.params import SamplingParams

__all__ = ["BeamSearch", "Hypothesis"]

_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A result of a beam search.

    Attributes:
        token_ids: what was generated, the end token included.
        cumulative_logprob: sum of the tokens' log-probabilities.
        score: the same divided by the length to the power of the length penalty.
        finish_reason: "stop" behind an end token, "length" without.
    """

    token_ids: Sequence[int]
    cumulative_logprob: float
    score: float
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True, eq=False)
class _Beam:
    """Tokens so far, as a list that shares its beginning with other beams; a beam without parent has none."""

    parent: "_Beam | None" = None
    token_id: int = -1
    logprob: float = 0.0

    def token_ids(self) -> list[int]:
        tokens, beam = [], self
        while beam.parent is not None:
            tokens.append(beam.token_id)
            beam = beam.parent
        return tokens[::-1]


class BeamSearch:
    """The search of one request; it finds what `generate(num_beams=...)` of transformers finds.

    In each step the beams' continuations are ranked by log-probability; of equal ones that of the better beam
    comes first, and then the lower token. Those among the first `beam_width` that end are results if their
    score is good enough: `beam_width` results are kept. Of the others, the first `beam_width` are the next
    beams. The search is over at `max_tokens`, and once there are so many results: with `early_stopping` at
    once, else when the best beam's score, at the length that it has, is not above the worst result's. Sums
    and scores are in float32.

    Args:
        params: `beam_width`, `length_penalty`, `early_stopping`, and `n`, the results that are wanted.
        end_token_ids: tokens that end a beam.
        max_tokens: tokens of a result at most.

    Raises:
        ConfigError: `max_tokens` to the power of `length_penalty` is out of the range of float32.
    """

    def __init__(self, params: SamplingParams, end_token_ids: Collection[int], max_tokens: int) -> None:
        if abs(params.length_penalty) * math.log2(max_tokens) > _FLOAT32.maxexp - 2:
            raise ConfigError(
                f"length_penalty is {params.length_penalty} and max_tokens {max_tokens}: a length to that "
                "power is out of the range of float32; choose a penalty nearer to 0"
            )
        self._params = params
        self._end_token_ids = frozenset(end_token_ids)
        self._max_tokens = max_tokens
        self._length = 0
        self._beams = [_Beam()]  # in the order of the request's sequences
        self._ranked = list(self._beams)  # the same, best first
        self._ended: list[tuple[float, _Beam]] = []  # scores and results, best first
        self.is_done = False

    def advance(self, candidates: Sequence[Sequence[tuple[int, float]]]) -> Sequence[Sequence[int]]:
        """Extend the beams by a token.

        Args:
            candidates: of each beam, in order, its likeliest next tokens with their log-probabilities: as
                many as the search has beams, and then as many again, or as there are end tokens if these are
                more.

        Returns:
            Of each beam, in order, the tokens that it goes on with, best first; none if it is given up, as
            all are when the search is done. The beams of the next step are those that go on, in their old
            order, with the first of their tokens, and then, parent by parent, those with the other ones.

        Raises:
            InvalidRequest: the search is done, or has another number of beams.
        """
        if self.is_done or len(candidates) != len(self._beams):
            raise InvalidRequest(
                f"candidates of {len(candidates)} beams for a search that has "
                + ("ended" if self.is_done else f"{len(self._beams)}")
            )
        width = self._params.beam_width
        self._length += 1
        ranked = self._continuations(candidates)
        going_on = [beam for beam in ranked if not self._ends(beam)][:width]
        self._keep([beam for beam in ranked[:width] if self._ends(beam)])
        self.is_done = not going_on or not self._can_improve(going_on[0])
        return self._go_on_with([] if self.is_done else going_on)

    def results(self) -> list[Hypothesis]:
        """What was found so far, best first, at most `SamplingParams.n`."""
        return [self._hypothesis(score, beam) for score, beam in self._ended[: self._params.n]]

    def _continuations(self, candidates: Sequence[Sequence[tuple[int, float]]]) -> list[_Beam]:
        """All of them, best first."""
        offered = {id(beam): sorted(tokens) for beam, tokens in zip(self._beams, candidates, strict=True)}
        children = [
            _Beam(beam, token_id, float(np.float32(beam.logprob + logprob)))
            for beam in self._ranked
            for token_id, logprob in offered[id(beam)]
        ]
        return sorted(children, key=lambda child: -child.logprob)

    def _ends(self, beam: _Beam) -> bool:
        return self._length == self._max_tokens or beam.token_id in self._end_token_ids

    def _keep(self, ended: Sequence[_Beam]) -> None:
        """Enter those that are good enough among the results; an older one stays before an equal one."""
        merged = self._ended + [(self._score(beam), beam) for beam in ended]
        self._ended = sorted(merged, key=lambda entry: -entry[0])[: self._params.beam_width]

    def _hypothesis(self, score: float, beam: _Beam) -> Hypothesis:
        is_stopped = beam.token_id in self._end_token_ids
        return Hypothesis(beam.token_ids(), beam.logprob, score, "stop" if is_stopped else "length")

    def _score(self, beam: _Beam) -> float:
        divisor = np.float32(self._length**self._params.length_penalty)
        return float(np.float32(beam.logprob) / divisor)

    def _can_improve(self, best: _Beam) -> bool:
        """Whether the search goes on for results that are better than those that it has."""
        if len(self._ended) < self._params.beam_width:
            return True
        return not self._params.early_stopping and self._score(best) > self._ended[-1][0]

    def _go_on_with(self, ranked: Sequence[_Beam]) -> Sequence[Sequence[int]]:
        """Make these the beams; returns the tokens of each old one."""
        families = [[child for child in ranked if child.parent is beam] for beam in self._beams]
        self._ranked = list(ranked)
        self._beams = [*_first_of(families), *_others_of(families)]
        return [[child.token_id for child in family] for family in families]


def _first_of(families: Sequence[Sequence[_Beam]]) -> Iterator[_Beam]:
    return (family[0] for family in families if family)


def _others_of(families: Sequence[Sequence[_Beam]]) -> Iterator[_Beam]:
    return (child for family in families for child in family[1:])
