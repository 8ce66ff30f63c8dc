"""From what an executor brings to what a scheduler takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pagedkv.sampling.beam_search import BeamSearch
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import FinishReason, RequestState, ScheduledStep, StepResult

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes a `StepResult`.

    Attributes:
        sampled: what the step brought.
        places: of each sequence behind which a token was sampled, its place in `sampled`, by `seq_id`.
        branches: as in `StepResult`.
        ended: as in `StepResult`.
    """

    sampled: Sampled
    places: Mapping[int, int]
    branches: dict[int, Sequence[int]]
    ended: dict[int, FinishReason] = field(default_factory=dict)

    @classmethod
    def of(cls, step: ScheduledStep, sampled: Sampled) -> Self:
        """That of a step, with its samples; it has no beams until `advance`."""
        sequences = step.sampling()
        live = {place: tokens for place, tokens in sampled.branches.items() if sequences[place].is_live}
        return cls(
            sampled=sampled,
            places={each.seq_id: place for place, each in enumerate(sequences)},
            branches={sequences[place].seq_id: tokens for place, tokens in live.items()},
        )

    def advance(self, search: BeamSearch, request: RequestState, reason: FinishReason) -> None:
        """Give the candidates of all beams of a request to its search, which says how they go on.

        All of them sample in the same step. When the search is over, its sequences end with whatever token
        they got.

        Args:
            search: the search.
            request: its request.
            reason: what sequences end for.
        """
        beams = [each.seq_id for each in request.sequences]
        places = [self.places[seq_id] for seq_id in beams if seq_id in self.places]
        if not places:
            return
        tokens = search.advance([self.sampled.candidates[place] for place in places])
        if search.is_done:
            self.ended.update(dict.fromkeys(beams, reason))
        else:
            self.branches.update(zip(beams, tokens, strict=True))

    def result(self) -> StepResult:
        """The result of the step."""
        return StepResult(token_ids=self.sampled.token_ids, branches=self.branches, ended=self.ended)
