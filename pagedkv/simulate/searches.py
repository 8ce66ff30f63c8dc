"""Samples and beams of a simulation: what tokens mean to the scheduler."""

from collections.abc import Sequence

from pagedkv.sampling.beam_search import BeamSearch
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import FinishReason, RequestState, ScheduledStep, StepResult

__all__ = ["Searches"]


class Searches:
    """Turns what an executor brings into what a scheduler takes; beams are chosen by real searches."""

    def __init__(self) -> None:
        self._searches: dict[RequestState, BeamSearch] = {}

    def begin(self, request: RequestState) -> None:
        """Take a new request; only a beam search needs to be known."""
        params = request.request.sampling
        if params is not None and params.beam_width > 1:
            self._searches[request] = BeamSearch(params, (), request.request.max_tokens)

    def result(self, step: ScheduledStep, sampled: Sampled) -> StepResult:
        """The result of a step; it has to be committed."""
        if not (self._searches or sampled.branches):
            return StepResult(token_ids=sampled.token_ids)
        sequences = step.sampling()
        places = {each.seq_id: place for place, each in enumerate(sequences)}
        branches = {sequences[place].seq_id: tokens for place, tokens in sampled.branches.items()}
        ended: dict[int, FinishReason] = {}
        for request, search in self._searches.items():
            beams = [each.seq_id for each in request.sequences]
            if beams[0] in places:  # all of them sample in the same step
                tokens = search.advance([sampled.candidates[places[beam]] for beam in beams])
                if search.is_done:
                    ended.update(dict.fromkeys(beams, "length"))
                else:
                    branches.update(zip(beams, tokens, strict=True))
        return StepResult(token_ids=sampled.token_ids, branches=branches, ended=ended)

    def end(self, request: RequestState) -> Sequence[int]:
        """Forget a request that has ended; lengths of its samples, or of the hypotheses that were found."""
        search = self._searches.pop(request, None)
        if search is None:
            return [each.num_output_tokens for each in request.finished]
        return [len(each.token_ids) for each in search.results()]
