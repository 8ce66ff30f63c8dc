"""What the harness knows of each request, and the bounds that follow from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import index

from pytest_pagedkv.conformance.scheduler.adapter import (
    Refused,
    Request,
    Scheduled,
    SchedulerAdapter,
    SchedulerFeature,
    Step,
)
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["Live", "can_run", "check_budget", "check_free", "check_refusal", "meet", "usable"]

_SLACK_STEPS = 4
"""Steps that are granted on top of the bound of waits."""


@dataclass(slots=True)
class Live:
    """A request as it has to be.

    Attributes:
        request: what was asked for.
        tokens: prompt and generated tokens.
        num_computed: leading tokens whose KV is in its blocks.
        is_running: it has blocks.
        work: steps that it would take alone.
        since: when it came, or lost its blocks.
        is_due: nobody who comes from now on goes before it, unless more urgent.
        work_ahead: steps that the requests which may go first would take, one after another.
        steps: steps since it came that ran anything.
        preemptions: how often it was preempted.
        beside: the other requests that were live at some time of its life.
    """

    request: Request
    work: int
    since: float
    is_due: bool
    tokens: list[int] = field(default_factory=list)
    num_computed: int = 0
    is_running: bool = False
    work_ahead: int = 0
    steps: int = 0
    preemptions: int = 0
    beside: set[int] = field(default_factory=set)

    @property
    def num_generated(self) -> int:
        """Tokens that were sampled for it."""
        return len(self.tokens) - len(self.request.token_ids)

    def note_wait(self, now: float, unfair_s: float) -> None:
        """Note that a step is being chosen: whoever has waited for `unfair_s` is passed by nobody now."""
        self.is_due = self.is_due or (not self.is_running and now - self.since > unfair_s)

    def check_wait(self, ratio: float) -> None:
        """Check that it is not taking too long.

        Raises:
            InvariantViolation: it is.
        """
        allowed = ratio * (self.work + self.work_ahead) + _SLACK_STEPS
        if self.steps > allowed:
            request = self.request
            raise InvariantViolation(
                "bounded-wait",
                f"request {request.request_id} has {self.num_generated} of {request.max_tokens} tokens after "
                f"{self.steps} steps. Alone it takes {self.work} steps, what is ahead of it takes "
                f"{self.work_ahead} one after another: {allowed:g} are allowed",
            )

    def check_preemptions(self) -> None:
        """Check that it is not preempted again and again.

        Raises:
            InvariantViolation: it is.
        """
        if self.preemptions > len(self.beside):
            raise InvariantViolation(
                "bounded-preemption",
                f"request {self.request.request_id} was preempted {self.preemptions} times; "
                f"{len(self.beside)} other requests were live beside it",
            )

    def check_outputs(self, told: Iterable[int]) -> None:
        """Check the tokens that the scheduler says it got.

        Raises:
            InvariantViolation: they are others.
        """
        tokens, outputs = [index(token) for token in told], self.tokens[len(self.request.token_ids) :]
        if tokens != outputs:
            raise InvariantViolation(
                "outputs", f"request {self.request.request_id} got the tokens {outputs}, and has {tokens}"
            )


def meet(new: Live, others: Iterable[Live]) -> None:
    """Note that a new request is live beside others: who is ahead of whom."""
    request = new.request
    for other in others:
        new.beside.add(other.request.request_id)
        other.beside.add(request.request_id)
        new.work_ahead += other.work
        if request.priority < other.request.priority or not other.is_due:
            other.work_ahead += new.work


def can_run(scheduler: SchedulerAdapter, request: Request) -> bool:
    """Whether an empty scheduler can run it at all; the KV of its last token is never needed."""
    length = len(request.token_ids) + request.max_tokens - 1
    return _blocks(scheduler, length) <= scheduler.usable_blocks and (
        _is_chunked(scheduler) or len(request.token_ids) <= scheduler.token_budget
    )


def _must_be_taken(scheduler: SchedulerAdapter, request: Request) -> bool:
    """Whether it may not be refused: with the last token, the overhead, and recomputed at once if need be."""
    length = len(request.token_ids) + request.max_tokens
    needed = _blocks(scheduler, length) + scheduler.max_overhead_blocks
    return needed <= scheduler.usable_blocks and (_is_chunked(scheduler) or length <= scheduler.token_budget)


def check_refusal(scheduler: SchedulerAdapter, request: Request, refused: Refused) -> None:
    """Check that a request was refused for good, and that the numbers say so.

    Raises:
        InvariantViolation: it was not, or they do not.
    """
    if _must_be_taken(scheduler, request):
        raise InvariantViolation(
            "refusal", f"request {request.request_id} fits an empty pool, and was refused: {refused}"
        )
    if not refused.needed > refused.available:
        raise InvariantViolation(
            "refusal",
            f"the numbers do not say why: needed {refused.needed}, available {refused.available}",
        )


def _is_chunked(scheduler: SchedulerAdapter) -> bool:
    return SchedulerFeature.CHUNKED_PREFILL in scheduler.features


def _blocks(scheduler: SchedulerAdapter, num_tokens: int) -> int:
    return -(-num_tokens // scheduler.block_size)


def check_free(scheduler: SchedulerAdapter, live: Iterable[Live], free: int) -> None:
    """Check the free blocks against what running requests have computed, and against what they may hold.

    Raises:
        InvariantViolation: they do not fit.
    """
    running = [one for one in live if one.is_running]
    size, usable = scheduler.block_size, scheduler.usable_blocks
    computed = {
        tuple(one.tokens[:end]) if end <= one.num_computed else (one.request.request_id, "last")
        for one in running
        for end in range(size, one.num_computed + size, size)
    }
    if len(computed) + free > usable:
        raise InvariantViolation(
            "pool-kept",
            f"running requests have computed the KV of {len(computed)} blocks, and {free} are free, of "
            f"{usable} usable ones",
        )
    most = sum(
        _blocks(scheduler, len(one.request.token_ids) + one.request.max_tokens)
        + scheduler.max_overhead_blocks
        for one in running
    )
    if free < usable - most:
        raise InvariantViolation(
            "come-home",
            f"{free} of {usable} blocks are free; {len(running)} requests are running and may hold {most}",
        )


def check_budget(scheduler: SchedulerAdapter, scheduled: Sequence[Scheduled]) -> None:
    """Check the size of a step.

    Raises:
        InvariantViolation: it is too large.
    """
    num_tokens = sum(part.num_tokens for part in scheduled)
    if num_tokens > scheduler.token_budget or len(scheduled) > scheduler.max_running:
        raise InvariantViolation(
            "budget",
            f"the step has {num_tokens} tokens of {len(scheduled)} requests; at most "
            f"{scheduler.token_budget} tokens of {scheduler.max_running} requests are allowed",
        )


def usable(step: Step) -> Step:
    """A step as the contract has it.

    Raises:
        InvariantViolation: it is something else.
    """
    try:
        parts = [Scheduled(index(p.request_id), index(p.start), index(p.num_tokens)) for p in step.scheduled]
        return Step(parts, [index(request_id) for request_id in step.preempted])
    except (AttributeError, TypeError) as error:
        raise InvariantViolation(
            "well-formed", f"schedule returned {step!r}; it must return a Step"
        ) from error
