"""A scheduler whose every step is verified, with a model that samples one token at a time."""

import math
from collections.abc import Sequence
from operator import index

from pytest_pagedkv.conformance.checking import Checked, operation
from pytest_pagedkv.conformance.scheduler.adapter import (
    Refused,
    Request,
    Scheduled,
    SchedulerAdapter,
    SchedulerFeature,
    Step,
)
from pytest_pagedkv.conformance.scheduler.invariants import INVARIANTS
from pytest_pagedkv.conformance.scheduler.ledger import (
    Live,
    can_run,
    check_budget,
    check_free,
    check_refusal,
    meet,
    usable,
)
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["CheckedScheduler"]

STEP_S = 0.01
"""Virtual time that a step takes."""

_FAR = 1000
"""Distance of the tokens of two requests."""

_SHOWN = 10
"""Requests that a report lists."""

_IDLE_STEPS = 2
"""Empty steps in a row that are no stall: one forms a batch, one waits for blocks of the last step."""


class CheckedScheduler(Checked):
    """A scheduler and the model that it drives. The first wrong step raises InvariantViolation.

    The model's only output is a token for each request all of whose tokens are computed. After a violation
    the scheduler is of no further use.

    Args:
        adapter: the scheduler's class.
        num_blocks: size of the pool.
        block_size: tokens in a block.
        token_budget: most tokens in a step.
        max_running: most requests in a step.
        watch: the time limit for a call; None sets none.

    Attributes:
        live: the requests as they have to be, by id. Read only.
        in_flight: the step that was scheduled and not committed. Read only.
        now: the virtual time in seconds.
    """

    invariants = INVARIANTS

    def __init__(
        self,
        adapter: type[SchedulerAdapter],
        num_blocks: int,
        block_size: int,
        token_budget: int,
        max_running: int,
        watch: Watch | None = None,
    ) -> None:
        made_with = {
            "num_blocks": num_blocks,
            "block_size": block_size,
            "token_budget": token_budget,
            "max_running": max_running,
        }
        super().__init__(adapter, watch, made_with)
        self.now = 0.0
        self.live: dict[int, Live] = {}
        self.in_flight: Step | None = None
        self._aborted: set[int] = set()
        self._computed: set[tuple[int, ...]] = (
            set()
        )  # prefixes whose KV anyone computes by the step in flight, or did before
        self._num_idle = 0
        self._scheduler: SchedulerAdapter = self._make(*made_with.values(), lambda: self.now)

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can have."""
        return self._scheduler.usable_blocks

    @property
    def _unfair_s(self) -> float:
        """How long requests that come later may go before one that waits."""
        scheduler = self._scheduler
        return scheduler.unfair_s if SchedulerFeature.FAIR in scheduler.features else math.inf

    # ---- operations

    @operation
    def add(self, request_id: int, token_ids: Sequence[int], max_tokens: int, priority: int = 0) -> bool:
        """Send a request. Returns whether it was taken; an id that is live is misuse."""
        request = Request(request_id, tuple(token_ids), max_tokens, priority)
        if request_id in self.live:
            self._misuse(self._scheduler.add_request, ValueError, request)
            return False
        return self._add(request)

    @operation
    def schedule(self) -> None:
        """Let the scheduler choose a step, and check it."""
        self._schedule()

    @operation
    def commit(self) -> None:
        """Give the scheduler the step's tokens, and check what it says is finished."""
        self._commit()

    @operation
    def step(self) -> None:
        """Run a step: schedule, then commit."""
        self._step()

    @operation
    def abort(self, request_id: int) -> None:
        """Abort a request, at any time; an id that is not live is misuse."""
        if request_id not in self.live:
            self._misuse(self._scheduler.abort, KeyError, request_id)
            return
        self._call(self._scheduler.abort, (), request_id)
        del self.live[request_id]
        self._aborted.add(request_id)

    @operation
    def drain(self) -> None:
        """Run steps until no request is live; the bounds on waits and stalls end it otherwise."""
        self._drain()

    @operation
    def close(self) -> None:
        """Drain, and check that every block is free and that one request can have them all."""
        self._drain()
        self._step()  # what is given back by the next commit is free then
        scheduler = self._scheduler
        size = (scheduler.usable_blocks - scheduler.max_overhead_blocks) * scheduler.block_size
        if SchedulerFeature.CHUNKED_PREFILL not in scheduler.features:
            size = min(size, scheduler.token_budget)
        if size > 1 and not self._add(Request(0, (0,) * (size - 1), max_tokens=1)):
            raise InvariantViolation("come-home", f"nothing is live, but {size} tokens are refused")
        self._drain()

    # ---- requests

    def _add(self, request: Request) -> bool:
        try:
            self._call(self._scheduler.add_request, (Refused,), request)
        except Refused as refused:
            check_refusal(self._scheduler, request, refused)
            return False
        scheduler, length = self._scheduler, len(request.token_ids)
        if not can_run(scheduler, request):
            raise InvariantViolation(
                "refusal",
                f"request {request.request_id} of {length} + {request.max_tokens} tokens was taken; there "
                f"are {scheduler.usable_blocks} blocks of {scheduler.block_size}, and "
                f"{scheduler.token_budget} tokens in a step",
            )
        work = -(-length // scheduler.token_budget) + request.max_tokens
        is_due = self._unfair_s == 0
        new = Live(request, work, self.now, is_due, list(request.token_ids))
        meet(new, self.live.values())
        self.live[request.request_id] = new
        self._aborted.discard(request.request_id)
        return True

    # ---- steps

    def _drain(self) -> None:
        if self.in_flight is not None:
            self._commit()
        while self.live:
            self._step()

    def _step(self) -> None:
        self._schedule()
        self._commit()

    def _schedule(self) -> None:
        if self.in_flight is not None:
            raise ValueError("a step is in flight: commit it first")
        for one in self.live.values():
            one.note_wait(self.now, self._unfair_s)
        step = usable(self._call(self._scheduler.schedule, ()))
        self.in_flight = step
        self._check_ids(step)
        for request_id in step.preempted:
            self._preempt(self.live[request_id])
        for part in step.scheduled:
            self._note_computed(part)
        for part in step.scheduled:
            self._check_part(part)
        check_budget(self._scheduler, step.scheduled)
        self._count(step)

    def _check_ids(self, step: Step) -> None:
        named = [*step.preempted, *(part.request_id for part in step.scheduled)]
        for request_id in named:
            if request_id in self._aborted:
                raise InvariantViolation("abort", f"the step names request {request_id}, which was aborted")
            if request_id not in self.live:
                raise InvariantViolation(
                    "known-request", f"the step names request {request_id}, which is not live"
                )
            if named.count(request_id) > 1:
                raise InvariantViolation("no-duplicate", f"the step names request {request_id} twice")

    def _preempt(self, one: Live) -> None:
        if not one.is_running:
            raise InvariantViolation(
                "known-request", f"request {one.request.request_id} is preempted, and is not running"
            )
        one.is_running, one.num_computed, one.since = False, 0, self.now
        one.preemptions += 1
        one.check_preemptions()

    def _note_computed(self, part: Scheduled) -> None:
        """Others may start behind it in the same step, which writes the KV of a layer before it attends."""
        tokens = self.live[part.request_id].tokens
        ends = range(part.start + 1, min(part.start + part.num_tokens, len(tokens)) + 1)
        self._computed.update(tuple(tokens[:end]) for end in ends)

    def _check_part(self, part: Scheduled) -> None:
        one, start, stop = self.live[part.request_id], part.start, part.start + part.num_tokens
        if part.num_tokens < 1 or stop > len(one.tokens):
            raise InvariantViolation(
                "no-overrun",
                f"request {part.request_id} is scheduled for {part.num_tokens} tokens from {start} on; it "
                f"has {len(one.tokens)}",
            )
        if one.is_running and start != one.num_computed:
            raise InvariantViolation(
                "in-order",
                f"request {part.request_id} goes on at token {start}; it stopped at {one.num_computed}",
            )
        if not one.is_running and start:
            self._check_cached(one, start)
        one.is_running = True

    def _check_cached(self, one: Live, start: int) -> None:
        request_id = one.request.request_id
        if SchedulerFeature.CACHED_TOKENS not in self._scheduler.features:
            raise InvariantViolation(
                "cached-truth", f"request {request_id} starts at token {start}, without CACHED_TOKENS"
            )
        if tuple(one.tokens[:start]) not in self._computed:
            raise InvariantViolation(
                "cached-truth",
                f"request {request_id} starts at token {start}; nobody has computed its first {start} tokens",
            )

    def _count(self, step: Step) -> None:
        """Let time pass, and check that nobody waits too long."""
        self._num_idle = 0 if step.scheduled or not self.live else self._num_idle + 1
        self.now += STEP_S if step.scheduled else max(STEP_S, self._scheduler.max_idle_s)
        if self._num_idle > _IDLE_STEPS:
            raise InvariantViolation(
                "progress",
                f"{len(self.live)} requests are live, and {self._num_idle} steps in a row run nothing; "
                f"{self._free()} of {self._scheduler.usable_blocks} blocks are free",
            )
        if step.scheduled:
            for one in self.live.values():
                one.steps += 1
                one.check_wait(self._scheduler.wait_ratio)

    def _commit(self) -> None:
        if self.in_flight is None:
            raise ValueError("no step is in flight: schedule one first")
        sampled: dict[int, int] = {}
        for part in self.in_flight.scheduled:
            if part.request_id in self.live:
                one = self.live[part.request_id]
                one.num_computed = part.start + part.num_tokens
                if one.num_computed == len(one.tokens):
                    sampled[part.request_id] = _token(one)
        finished = self._call(self._scheduler.commit, (), dict(sampled))
        self.in_flight = None
        for request_id, token in sampled.items():
            self.live[request_id].tokens.append(token)
        self._finish([index(request_id) for request_id in finished])
        check_free(self._scheduler, self.live.values(), self._free())

    def _finish(self, finished: Sequence[int]) -> None:
        done = {i for i, one in self.live.items() if one.num_generated == one.request.max_tokens}
        for request_id in finished:
            if request_id in self._aborted:
                raise InvariantViolation("abort", f"request {request_id} is finished, and was aborted")
        if sorted(finished) != sorted(done):
            raise InvariantViolation(
                "finishes",
                f"requests {sorted(done)} have their last token with this step; told is {sorted(finished)}",
            )
        for request_id in done:
            one = self.live.pop(request_id)
            if SchedulerFeature.OUTPUTS in self._scheduler.features:
                one.check_outputs(self._call(self._scheduler.output_ids, (), request_id))

    def _free(self) -> int:
        return index(self._call(self._scheduler.num_free_blocks, ()))

    def _state(self) -> str:
        rows = [
            f"request {request_id}: prompt {len(one.request.token_ids)}, generated {one.num_generated} of "
            f"{one.request.max_tokens}, computed {one.num_computed}, "
            f"{'running' if one.is_running else 'waiting'}, {one.steps} steps, {one.preemptions} preemptions"
            for request_id, one in list(self.live.items())[:_SHOWN]
        ]
        rows += [f"and {len(self.live) - _SHOWN} more"] if len(self.live) > _SHOWN else []
        return "\n".join([*rows, f"in flight: {self.in_flight}"])


def _token(one: Live) -> int:
    """The next token of a request, which no other one has."""
    return -1 - one.num_generated - _FAR * one.request.request_id
