"""pagedkv's own scheduler, over its own cache."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from pagedkv import errors
from pagedkv.block_manager import BlockManager
from pagedkv.config import CacheConfig, ForkMode, SchedulerConfig
from pagedkv.request import Request as Asked
from pagedkv.request import TokenPrompt
from pagedkv.scheduler import RequestState, ScheduledStep, Scheduler, SequenceState, StepResult
from pytest_pagedkv.conformance.scheduler.adapter import (
    Refused,
    Request,
    Scheduled,
    SchedulerAdapter,
    SchedulerFeature,
    Step,
)

__all__ = ["PagedKVSchedulerAdapter", "parts_of"]


class _CheckClock:
    """The suite's clock, in nanoseconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def now_ns(self) -> int:
        return round(self._clock() * 1e9)

    def sleep_until(self, time_ns: int) -> None:
        raise NotImplementedError(f"the suite advances the clock; nobody sleeps until {time_ns}")


class PagedKVSchedulerAdapter(SchedulerAdapter):
    """`Scheduler` with its default settings. Each step also checks that the cache's books balance."""

    features = (
        SchedulerFeature.CHUNKED_PREFILL
        | SchedulerFeature.PRIORITY
        | SchedulerFeature.FAIR
        | SchedulerFeature.CACHED_TOKENS
        | SchedulerFeature.OUTPUTS
    )
    prefix_caching: ClassVar[bool] = True
    fork_mode: ClassVar[ForkMode] = "lazy"
    settings: ClassVar[Mapping[str, object]] = {"policy": "priority"}

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        token_budget: int,
        max_running: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(num_blocks, block_size, token_budget, max_running, clock)
        cache = CacheConfig(
            num_blocks=num_blocks,
            block_size=block_size,
            prefix_caching=self.prefix_caching,
            fork_mode=self.fork_mode,
        )
        config = SchedulerConfig(
            max_batch_tokens=token_budget,
            max_running=max_running,
            **self.settings,  # type: ignore[arg-type]
        )
        self.scheduler = Scheduler(BlockManager(cache), config, _CheckClock(clock))
        self._step = ScheduledStep()
        self._finished: list[RequestState] = []

    def add_request(self, request: Request) -> None:
        """Add; our errors for misuse are ValueErrors already."""
        try:
            self.scheduler.add(
                Asked(
                    request_id=request.request_id,
                    prompt=TokenPrompt(request.token_ids),
                    max_tokens=request.max_tokens,
                    priority=request.priority,
                )
            )
        except errors.RequestRefused as refused:
            raise Refused(refused.needed, refused.available, refused.unit) from refused

    def schedule(self) -> Step:
        """Schedule, and translate."""
        self._step = self.scheduler.schedule()
        return Step(parts_of(self._step), [int(request_id) for request_id in self._step.preempted])

    def commit(self, sampled: Mapping[int, int]) -> Sequence[int]:
        """Commit; of an empty step there is nothing to commit."""
        if not self._step:
            return []
        result = StepResult(token_ids=np.array(self._tokens(sampled), np.int32))
        self._finished = self.scheduler.commit(self._step, result)
        self.scheduler.cache.check_integrity()
        return [int(request.request_id) for request in self._finished]

    def abort(self, request_id: int) -> None:
        """Abort."""
        self.scheduler.abort(request_id)

    def num_free_blocks(self) -> int:
        """Blank and evictable blocks."""
        return self.scheduler.cache.pool.num_free

    def output_ids(self, request_id: int) -> Sequence[int]:
        """The tokens of a request that the last step has finished."""
        [request] = [each for each in self._finished if each.request_id == request_id]
        tokens: list[int] = request.finished[0].output_ids.tolist()
        return tokens

    def _tokens(self, sampled: Mapping[int, int]) -> Sequence[int]:
        """A token for each place of the step; what stands in that of an aborted request does not matter."""
        return [sampled.get(_id(each), 0) for each in self._step.sampling()]


def parts_of(step: ScheduledStep) -> list[Scheduled]:
    """What a step computes, request by request."""
    decodes = zip(step.decodes.sequences, step.decodes.positions.tolist(), strict=True)
    parts = [Scheduled(_id(each), position, 1) for each, position in decodes]
    return parts + [Scheduled(_id(each.sequence), each.start, each.num_tokens) for each in step.chunks]


def _id(sequence: SequenceState) -> int:
    return int(sequence.request.request_id)
