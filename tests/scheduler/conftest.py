"""Schedulers on a virtual clock."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.request import Request, TokenPrompt
from pagedkv.scheduler import RequestState, ScheduledStep, Scheduler, StepResult

MS = 1_000_000


class Served:
    """A scheduler, its clock, and short ways to drive it."""

    def __init__(self, **settings: Any) -> None:
        names = {field.name for field in fields(CacheConfig)}
        cache = {"num_blocks": 64, "block_size": 4, "prefix_caching": False}
        cache |= {name: settings.pop(name) for name in names & settings.keys()}
        self.clock = VirtualClock()
        self.scheduler = Scheduler(
            BlockManager(CacheConfig(**cache)), SchedulerConfig(**settings), self.clock
        )
        self.told: list[Any] = []
        self.scheduler.events.attach(self.told.append)

    def add(self, request_id: int, num_tokens: int = 4, max_tokens: int = 4, **more: Any) -> RequestState:
        """A request whose prompt is like no other one's."""
        tokens = [1000 * request_id + place for place in range(num_tokens)]
        return self.scheduler.add(
            Request(request_id=request_id, prompt=TokenPrompt(tokens), max_tokens=max_tokens, **more)
        )

    def step(self, **result: Any) -> ScheduledStep:
        """Schedule and commit, 1 ms later."""
        step = self.scheduler.schedule()
        self.clock.advance(MS)
        if step:
            tokens = result.pop("tokens", np.zeros(step.num_sampled, np.int32))
            self.scheduler.commit(step, StepResult(token_ids=np.asarray(tokens, np.int32), **result))
        return step

    def drain(self) -> int:
        """Run until nothing is live; how many steps that took."""
        for number in range(2000):
            if not self.scheduler.requests:
                return number
            self.step()
        raise AssertionError("requests are live after 2000 steps")

    def of(self, kind: type) -> list[Any]:
        """The events of a kind, in order."""
        return [event for event in self.told if type(event) is kind]

    def free(self) -> int:
        """Free blocks."""
        return self.scheduler.cache.pool.num_free


@pytest.fixture
def serve() -> Callable[..., Served]:
    """Makes schedulers, by their settings and those of their caches."""
    return Served


def began(step: ScheduledStep) -> list[int | str]:
    """Requests of which the step computes the first piece of the prompt."""
    return [chunk.sequence.request.request_id for chunk in step.chunks if chunk.start == 0]
