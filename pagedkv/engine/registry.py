"""The live requests of an engine, and what a step means to them."""

from collections.abc import Iterator, Sequence

from pagedkv.engine.answer import Answer
from pagedkv.engine.beams import BeamGroup
from pagedkv.engine.groups import Asked, PlainGroup, WatchedGroup
from pagedkv.engine.outputs import RequestOutput
from pagedkv.errors import InvalidRequest
from pagedkv.request import RequestId
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import RequestState, ScheduledStep, StepResult

__all__ = ["Registry"]


class Registry:
    """Every live request once, those with work to do at each step a second time.

    A step looks at those of the latter that it samples for, however many others there are; without any, it
    costs nothing for each sequence.
    """

    def __init__(self) -> None:
        self._all: dict[RequestId, PlainGroup] = {}
        self._watched: dict[RequestId, WatchedGroup] = {}
        self._searches: dict[RequestId, BeamGroup] = {}
        self._answer: Answer | None = None
        self._sampled: Sequence[RequestId] = ()  # of the watched ones, those that the last step samples for
        self._unreadable: dict[RequestId, Exception] = {}  # those that ended with the last step

    def add(self, asked: Asked) -> None:
        """Take a request that the scheduler has taken."""
        group: PlainGroup
        if asked.search is not None:
            group = self._searches[asked.state.request_id] = BeamGroup(asked, asked.search)
        elif asked.streams or asked.params.stop or asked.params.logprobs is not None:
            group = self._watched[asked.state.request_id] = WatchedGroup(asked)
        else:
            group = PlainGroup(asked)
        self._all[asked.state.request_id] = group

    def result(self, step: ScheduledStep, sampled: Sampled) -> StepResult:
        """What a step has brought, as the scheduler takes it; it has to be committed, or to have failed.

        Raises:
            InvalidRequest: a token is missing, or there is one too many; nothing was read.
        """
        self._answer = None
        self._sampled = ()
        self._unreadable = {}
        if len(sampled.token_ids) != step.num_sampled:
            raise InvalidRequest(
                f"step {step.number} samples {step.num_sampled} tokens, and its executor brought "
                f"{len(sampled.token_ids)}"
            )
        request_ids = self._asking(step)
        self._sampled = [each for each in request_ids if each in self._watched]
        if not (request_ids or sampled.branches):
            return StepResult(token_ids=sampled.token_ids)
        answer = self._answer = Answer.of(step, sampled)
        for group in self._read():
            group.read(answer)
        for request_id in request_ids:
            if (search := self._searches.get(request_id)) is not None:
                search.advance(answer)
        return answer.result()

    def committed(self) -> None:
        """The result of the last step was taken."""
        if self._answer is not None:
            for group in self._read():
                group.committed(self._answer)

    def failed(self) -> None:
        """The last step was for nothing."""
        for group in self._read():
            group.reread()

    def finish(self, state: RequestState) -> RequestOutput:
        """Forget a request that has ended; what there is to tell."""
        group = self._all.pop(state.request_id)
        self._searches.pop(state.request_id, None)
        watched = self._watched.pop(state.request_id, None)
        news = watched.news() if watched is not None and watched.asked.streams else None
        output = group.output() if news is None else news
        if (error := group.asked.error) is not None:
            self._unreadable[state.request_id] = error
        return output

    def unreadable(self) -> dict[RequestId, Exception]:
        """What the tokenizer raised in this step, and at the tokens of which requests, ended or live.

        The first error has a note that names all of them.
        """
        found = dict(self._unreadable)
        found.update((each.request_id, error) for each in self._read() if (error := each.asked.error))
        for error in [*found.values()][:1]:
            whose = ", ".join(map(repr, found))
            error.add_note(f"pagedkv: raised by the tokenizer at the tokens of {whose}")
        return found

    def news(self) -> Iterator[RequestOutput]:
        """What live requests that stream have not told yet."""
        for group in self._read():
            if group.asked.streams and (news := group.news()) is not None:
                yield news

    def _asking(self, step: ScheduledStep) -> Sequence[RequestId]:
        """The requests that a step samples for and that have work to do, in its order."""
        if not (self._watched or self._searches):
            return ()
        met = dict.fromkeys(each.request.request_id for each in step.sampling())
        return [each for each in met if each in self._watched or each in self._searches]

    def _read(self) -> Iterator[WatchedGroup]:
        """Watched requests that the last step sampled for, as far as they live."""
        return (group for each in self._sampled if (group := self._watched.get(each)) is not None)
