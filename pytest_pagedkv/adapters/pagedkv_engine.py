"""pagedkv's own engine: its steps, with the suite in the place of the model."""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

import numpy as np

from pagedkv.engine import Engine, RequestOutput
from pagedkv.errors import RequestRefused
from pagedkv.events import Event, RequestPreempted
from pagedkv.request import RequestId
from pagedkv.sampling.params import SamplingParams
from pagedkv.sampling.sampled import Sampled
from pagedkv.scheduler import ScheduledStep
from pytest_pagedkv.adapters.pagedkv_scheduler import PagedKVSchedulerAdapter, parts_of
from pytest_pagedkv.conformance.scheduler.adapter import Refused, Request, Step

__all__ = ["PagedKVEngineAdapter"]


class _Abandoned(Exception):
    """Nobody is going to commit the step in flight."""


class _Rendezvous:
    """An executor that hands a step over, and waits for its tokens.

    The engine's `step` runs in a thread of its own, so that the suite can do something between schedule and
    commit; one of the two threads always waits for the other.
    """

    def __init__(self) -> None:
        self.told: SimpleQueue[ScheduledStep | list[RequestOutput] | BaseException] = SimpleQueue()
        self.tokens: SimpleQueue[Sequence[int] | None] = SimpleQueue()

    def execute(self, step: ScheduledStep) -> Sampled:
        """Wait for the suite."""
        self.told.put(step)
        tokens = self.tokens.get()
        if tokens is None:
            raise _Abandoned
        return Sampled(token_ids=np.array(tokens, np.int32))

    def close(self) -> None:
        """Nothing is held."""

    def run(self, step: Callable[[], list[RequestOutput]]) -> None:
        """A step of the engine, from the other thread."""
        try:
            self.told.put(step())
        except BaseException as error:  # noqa: BLE001 - it is raised where the suite can see it
            self.told.put(error)


class PagedKVEngineAdapter(PagedKVSchedulerAdapter):
    """`Engine.step`, `add_request` and `abort`, with the scheduler's settings."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        token_budget: int,
        max_running: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(num_blocks, block_size, token_budget, max_running, clock)
        self._meeting = _Rendezvous()
        self.engine = Engine(self._meeting, self.scheduler)
        self._preempted: list[RequestId] = []
        self._outputs: dict[int, Sequence[int]] = {}
        self.scheduler.events.attach(_Preemptions(self._preempted))
        weakref.finalize(self, self._meeting.tokens.put, None)

    def add_request(self, request: Request) -> None:
        """Add; our errors for misuse are ValueErrors already."""
        params = SamplingParams(max_tokens=request.max_tokens, temperature=0.0)
        try:
            self.engine.add_request(
                list(request.token_ids), params, request_id=request.request_id, priority=request.priority
            )
        except RequestRefused as refused:
            raise Refused(refused.needed, refused.available, refused.unit) from refused

    def schedule(self) -> Step:
        """Begin a step of the engine, which stops where the model would run."""
        threading.Thread(target=self._meeting.run, args=(self.engine.step,), daemon=True).start()
        told = self._hear()
        self._step = told if isinstance(told, ScheduledStep) else ScheduledStep()  # nothing was to be run
        preempted = [int(each) for each in self._preempted if each in self.scheduler.requests]
        self._preempted.clear()
        return Step(parts_of(self._step), preempted)

    def commit(self, sampled: Mapping[int, int]) -> Sequence[int]:
        """End the step of the engine; an empty one has ended."""
        if not self._step:
            return []
        self._meeting.tokens.put(self._tokens(sampled))
        told = self._hear()
        outputs = [] if isinstance(told, ScheduledStep) else told
        self.scheduler.cache.check_integrity()
        self._outputs = {int(each.request_id): each.outputs[0].token_ids for each in outputs}
        return [int(each.request_id) for each in outputs if each.finished]

    def abort(self, request_id: int) -> None:
        """Abort."""
        self.engine.abort(request_id)

    def output_ids(self, request_id: int) -> Sequence[int]:
        """What the engine told of a request at its end."""
        return self._outputs[request_id]

    def _hear(self) -> ScheduledStep | list[RequestOutput]:
        told = self._meeting.told.get()
        if isinstance(told, BaseException):
            raise told
        return told


class _Preemptions:
    """A sink that notes who was preempted."""

    def __init__(self, preempted: list[RequestId]) -> None:
        self._preempted = preempted

    def __call__(self, event: Event) -> None:
        if isinstance(event, RequestPreempted):
            self._preempted.append(event.request_id)
