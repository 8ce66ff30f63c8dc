"""Which sequences of a step are sampled in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pagedkv.errors import InvalidRequest
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler.state import SequenceState

__all__ = ["Kind", "Row", "by_kind"]

_COLD = 1e-20  # logits over a lower temperature leave the range of float32, and one token all the probability


class Kind(NamedTuple):
    """What sampling a sequence takes.

    Attributes:
        is_beam: it is a beam of a search.
        is_drawn: its token is drawn by a random number.
        has_top_k: from the `top_k` likeliest.
        has_top_p: from the likeliest that have `top_p` of the probability.
        is_penalised: tokens that it has already are less likely, or more.
    """

    is_beam: bool
    is_drawn: bool
    has_top_k: bool
    has_top_p: bool
    is_penalised: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A sequence behind which is sampled.

    Attributes:
        place: in `ScheduledStep.sampling()`.
        sequence: the sequence.
        params: of its request.
        num_draws: tokens that it gets: more than one if it is to branch into samples.
    """

    place: int
    sequence: SequenceState
    params: SamplingParams
    num_draws: int

    @property
    def num_candidates(self) -> int:
        """Tokens that a search has to know of each beam: its width of them go on, whatever ends."""
        width = self.params.beam_width
        return width + max(width, len(self.sequence.request.request.stop_token_ids))


def by_kind(sequences: Sequence[SequenceState]) -> Mapping[Kind, Sequence[Row]]:
    """The rows of a step, those of each kind together.

    Raises:
        InvalidRequest: a request has no sampling parameters, or draws and has no seed.
    """
    kinds: dict[Kind, list[Row]] = {}
    for place, sequence in enumerate(sequences):
        request = sequence.request.request
        params = request.sampling
        if params is None:
            raise InvalidRequest(f"request {request.request_id!r} has no sampling parameters")
        kind = _kind(params)
        if kind.is_drawn and params.seed is None:
            raise InvalidRequest(f"request {request.request_id!r} is to be drawn and has no seed")
        branches = not kind.is_beam and request.num_sequences > 1 and not sequence.num_output_tokens
        row = Row(place, sequence, params, request.num_sequences if branches else 1)
        kinds.setdefault(kind, []).append(row)
    return kinds


def _kind(params: SamplingParams) -> Kind:
    is_beam = params.beam_width > 1
    is_drawn = not is_beam and not params.is_greedy and params.temperature >= _COLD
    return Kind(
        is_beam=is_beam,
        is_drawn=is_drawn,
        has_top_k=is_drawn and params.top_k > 0,
        has_top_p=is_drawn and params.top_p < 1,
        is_penalised=params.repetition_penalty != 1,
    )
