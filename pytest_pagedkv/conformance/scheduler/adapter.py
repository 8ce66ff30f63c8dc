"""The interface between a scheduler and the suite that tests it. Imports nothing but the standard library."""

import abc
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pytest_pagedkv.adapter import Adapter

__all__ = ["Refused", "Request", "Scheduled", "SchedulerAdapter", "SchedulerFeature", "Step"]


class SchedulerFeature(enum.Flag):
    """What the scheduler under test promises. A missing one skips its tests, naming the feature."""

    NONE = 0
    CHUNKED_PREFILL = enum.auto()
    """A prompt that exceeds the token budget is computed in pieces; without, it is refused."""
    PRIORITY = enum.auto()
    """Requests of smaller `priority` go first; without, the suite gives all the same."""
    FAIR = enum.auto()
    """Requests that come later, with the same priority, do not keep an earlier one waiting for ever."""
    CACHED_TOKENS = enum.auto()
    """A request may start behind tokens whose KV is there: from a prefix cache, or back from a swap."""
    OUTPUTS = enum.auto()
    """`output_ids` says which tokens a request got."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        request_id: chosen by the suite.
        token_ids: the prompt, at least one token.
        max_tokens: tokens to generate, at least one; the request is finished when it has them.
        priority: the smaller, the more urgent.
    """

    request_id: int
    token_ids: tuple[int, ...]
    max_tokens: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A request's part of a step: its tokens from `start` on are computed, prompt and generated ones alike.

    Attributes:
        request_id: the request.
        start: tokens before this one have their KV in the request's blocks.
        num_tokens: how many are computed.
    """

    request_id: int
    start: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Step:
    """What runs next.

    Attributes:
        scheduled: the batch.
        preempted: requests whose blocks were taken away to make room; they wait again.
    """

    scheduled: Sequence[Scheduled] = ()
    preempted: Sequence[int] = ()


class Refused(Exception):
    """A request can never run: the only error that `add_request` may raise for that.

    Args:
        needed: what it takes.
        available: what there is at most.
        unit: of both, such as "blocks" or "tokens".
    """

    def __init__(self, needed: int, available: int, unit: str = "blocks") -> None:
        super().__init__(f"the request needs {needed} {unit}, and there are {available}")
        self.needed, self.available, self.unit = needed, available, unit


class SchedulerAdapter(Adapter):
    """A scheduler with its block pool; the suite plays the model.

    A step is `schedule`, then `commit` with one sampled token for each request all of whose tokens are
    computed after this step. Between the two requests come and are aborted. The suite makes a scheduler for
    each program.

    Args:
        num_blocks: size of the pool.
        block_size: tokens in a block.
        token_budget: most tokens in a step.
        max_running: most requests in a step.
        clock: the virtual time in seconds; the suite advances it.

    Attributes:
        features: what the scheduler promises.
        block_sizes: block sizes that it takes; the suite draws from them.
        max_overhead_blocks: blocks that a request may need or hold beyond those of its prompt and
            `max_tokens`.
        max_idle_s: how long it may run nothing on purpose, with work there and room for it, to form a batch.
        unfair_s: with FAIR, how long requests that come later may go before one that waits.
        wait_ratio: a request takes at most so many times the steps that it and what was ahead of it would
            take one after another.
        usable_blocks: blocks less those that the engine reserves; set it after `super().__init__`.
    """

    features: ClassVar[SchedulerFeature] = SchedulerFeature.NONE
    block_sizes: ClassVar[Sequence[int]] = (1, 2, 4)
    max_overhead_blocks: ClassVar[int] = 0
    max_idle_s: ClassVar[float] = 0.0
    unfair_s: ClassVar[float] = 0.0
    wait_ratio: ClassVar[float] = 2.0

    usable_blocks: int

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        token_budget: int,
        max_running: int,
        clock: Callable[[], float],
    ) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self.token_budget, self.max_running = token_budget, max_running
        self.clock = clock
        self.usable_blocks = num_blocks

    @abc.abstractmethod
    def add_request(self, request: Request) -> None:
        """Take a request on.

        Raises:
            Refused: it can never run: its prompt and `max_tokens` exceed the pool; without chunked prefill,
                the token budget.
            ValueError: the id is live.
        """

    @abc.abstractmethod
    def schedule(self) -> Step:
        """Choose what runs next. Nothing, if there is nothing to run."""

    @abc.abstractmethod
    def commit(self, sampled: Mapping[int, int]) -> Sequence[int]:
        """Take the step's results.

        Args:
            sampled: a token for each request that has all of its tokens computed; aborted ones are left out.

        Returns:
            Requests that are finished, in any order.
        """

    @abc.abstractmethod
    def abort(self, request_id: int) -> None:
        """End a request, at any time. What it holds comes back at the next commit at the latest.

        Raises:
            KeyError: it is not live.
        """

    @abc.abstractmethod
    def num_free_blocks(self) -> int:
        """Blocks that requests could still obtain, evictable cached ones included."""

    def output_ids(self, request_id: int) -> Sequence[int]:
        """The tokens that were sampled for a request which the last commit has finished. For OUTPUTS."""
        raise NotImplementedError
