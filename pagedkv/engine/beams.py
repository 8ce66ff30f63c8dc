"""A request that is a beam search."""

from collections.abc import Sequence
from dataclasses import replace

from pagedkv.engine.answer import Answer
from pagedkv.engine.groups import Asked, PlainGroup
from pagedkv.engine.outputs import CompletionOutput, RequestOutput
from pagedkv.sampling.beam_search import BeamSearch

__all__ = ["BeamGroup"]


class BeamGroup(PlainGroup):
    """A beam search over the sequences of one request; what it has found is told at its end.

    Args:
        asked: the request.
        search: its search.
    """

    def __init__(self, asked: Asked, search: BeamSearch) -> None:
        super().__init__(asked)
        self._search = search

    def advance(self, answer: Answer) -> None:
        """Take the candidates of all beams, and say which beams go on with which tokens."""
        answer.advance(self._search, self.asked.state, "stop")

    def output(self) -> RequestOutput:
        """What the search has found, best first; if it was aborted, the beams that there were."""
        if not self._search.is_done:
            aborted = super().output()
            return replace(aborted, outputs=aborted.outputs[: self.asked.params.n])
        return self._told(self._results(), is_finished=True)

    def _results(self) -> Sequence[CompletionOutput]:
        return [
            CompletionOutput(
                index=index,
                text=self.asked.text(list(found.token_ids)),
                token_ids=list(found.token_ids),
                finish_reason=found.finish_reason,
                cumulative_logprob=found.cumulative_logprob,
            )
            for index, found in enumerate(self._search.results())
        ]
