"""Samples and beams of a simulation: what tokens mean to the scheduler."""

from collections.abc import Sequence

from pagedkv.engine.answer import Answer
from pagedkv.sampling.beam_search import BeamSearch
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import RequestState, ScheduledStep, StepResult

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
        if not (sampled.candidates or sampled.branches):
            return StepResult(token_ids=sampled.token_ids)
        answer, sequences = Answer.of(step, sampled), step.sampling()
        asking = {sequences[place].request for place in sampled.candidates}
        for request in sorted(asking, key=lambda each: each.number):
            answer.advance(self._searches[request], request, "length")
        return answer.result()

    def end(self, request: RequestState) -> Sequence[int]:
        """Forget a request that has ended; lengths of its samples, or of the hypotheses that were found."""
        search = self._searches.pop(request, None)
        if search is None:
            return [each.num_output_tokens for each in request.finished]
        return [len(each.token_ids) for each in search.results()]
