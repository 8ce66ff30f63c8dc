"""Schedulers that keep the contract; every step is a method, so that a fault replaces one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_pagedkv.conformance.scheduler.adapter import (
    Refused,
    Request,
    Scheduled,
    SchedulerAdapter,
    SchedulerFeature,
    Step,
)


@dataclass(eq=False)
class Entry:
    """A request, the blocks it holds, and how far it is."""

    request: Request
    arrival: int
    tokens: list[int] = field(default_factory=list)
    num_computed: int = 0
    num_blocks: int = 0
    in_flight: int = 0

    @property
    def urgency(self) -> tuple[int, int]:
        """Who goes first."""
        return self.request.priority, self.arrival


class ReferenceScheduler(SchedulerAdapter):
    """First come, first served within a priority; the least urgent request is preempted, and recomputed.

    A waiting request is admitted when its tokens and one more fit, so that it does not run out of blocks at
    once. Blocks that an abort gives back during a step are free after it.
    """

    features = (
        SchedulerFeature.CHUNKED_PREFILL
        | SchedulerFeature.PRIORITY
        | SchedulerFeature.FAIR
        | SchedulerFeature.OUTPUTS
    )

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        token_budget: int,
        max_running: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(num_blocks, block_size, token_budget, max_running, clock)
        self.entries: dict[int, Entry] = {}
        self.waiting: list[Entry] = []
        self.running: list[Entry] = []
        self.free = num_blocks
        self.deferred = 0
        self.in_flight = False
        self.num_arrivals = 0
        self.done: dict[int, Entry] = {}

    # ---- requests

    def add_request(self, request: Request) -> None:
        """Queue a request."""
        if request.request_id in self.entries:
            raise ValueError(f"request {request.request_id} is live")
        self.check_fits(request)
        entry = Entry(request, self.num_arrivals, list(request.token_ids))
        self.num_arrivals += 1
        self.entries[request.request_id] = entry
        self.waiting.append(entry)

    def check_fits(self, request: Request) -> None:
        """Refuse what can never run."""
        length = len(request.token_ids) + request.max_tokens - 1
        if (needed := self.blocks(length)) > self.num_blocks:
            raise Refused(needed, self.num_blocks)
        if SchedulerFeature.CHUNKED_PREFILL not in self.features and length > self.token_budget:
            raise Refused(length, self.token_budget, "tokens")

    def abort(self, request_id: int) -> None:
        """Forget a request."""
        entry = self.entries.pop(request_id)
        if entry in self.running:
            self.running.remove(entry)
        else:
            self.waiting.remove(entry)
        self.give_back(entry)

    # ---- a step

    def schedule(self) -> Step:
        """Running requests first, then waiting ones while there is room."""
        preempted: list[int] = []
        scheduled: list[Scheduled] = []
        budget = self.token_budget
        for entry in sorted(self.running, key=self.order):
            if entry not in self.running:
                continue
            num_tokens = self.chunk(entry, budget)
            if num_tokens and self.grow(entry, num_tokens, preempted):
                scheduled.append(self.part(entry, num_tokens))
                budget -= num_tokens
        if not preempted:
            scheduled += self.admit(budget)
        self.in_flight = True
        return Step(scheduled, preempted)

    def order(self, entry: Entry) -> object:
        """Who goes first."""
        return entry.urgency

    def chunk(self, entry: Entry, budget: int) -> int:
        """How many tokens of a request to compute."""
        return min(budget, len(entry.tokens) - entry.num_computed)

    def part(self, entry: Entry, num_tokens: int) -> Scheduled:
        """A request's part of the step."""
        entry.in_flight = num_tokens
        return Scheduled(entry.request.request_id, entry.num_computed, num_tokens)

    def grow(self, entry: Entry, num_tokens: int, preempted: list[int]) -> bool:
        """Get blocks for more tokens, if need be from the least urgent request. Whether it worked."""
        needed = self.blocks(entry.num_computed + num_tokens) - entry.num_blocks
        while needed > self.free:
            victim = self.victim()
            self.preempt(victim)
            preempted.append(victim.request.request_id)
            if victim is entry:
                return False
        self.take(entry, needed)
        return True

    def victim(self) -> Entry:
        """Who gives up its blocks."""
        return max(self.running, key=lambda entry: entry.urgency)

    def preempt(self, entry: Entry) -> None:
        """Take a request's blocks away; it waits again."""
        self.running.remove(entry)
        self.waiting.append(entry)
        self.free += entry.num_blocks
        entry.num_blocks = 0
        entry.num_computed = self.kept(entry)

    def kept(self, entry: Entry) -> int:
        """Tokens that a preempted request need not compute again."""
        return 0

    def admit(self, budget: int) -> list[Scheduled]:
        """Start waiting requests, in order, until one does not fit."""
        scheduled = []
        for entry in sorted(self.waiting, key=self.order):
            num_tokens = self.chunk(entry, budget)
            if not num_tokens or len(self.running) >= self.max_running or not self.fits(entry):
                break
            self.waiting.remove(entry)
            self.running.append(entry)
            self.take(entry, self.blocks(entry.num_computed + num_tokens))
            scheduled.append(self.part(entry, num_tokens))
            budget -= num_tokens
        return scheduled

    def fits(self, entry: Entry) -> bool:
        """Whether there is room for all of a waiting request's tokens, next to what is admitted already."""
        promised = sum(self.blocks(len(other.tokens)) - other.num_blocks for other in self.running)
        return self.blocks(len(entry.tokens)) + promised <= self.free

    def commit(self, sampled: Mapping[int, int]) -> Sequence[int]:
        """Note what was computed, and who is done."""
        self.in_flight = False
        self.free += self.deferred
        self.deferred = 0
        done = []
        for entry in list(self.running):
            entry.num_computed += entry.in_flight
            entry.in_flight = 0
            if entry.request.request_id in sampled:
                entry.tokens.append(sampled[entry.request.request_id])
            if self.is_done(entry):
                done.append(entry.request.request_id)
                self.finish(entry)
        return done

    def is_done(self, entry: Entry) -> bool:
        """Whether a request has its tokens."""
        return len(entry.tokens) - len(entry.request.token_ids) >= entry.request.max_tokens

    def finish(self, entry: Entry) -> None:
        """Forget a request that is done."""
        self.done[entry.request.request_id] = self.entries.pop(entry.request.request_id)
        self.running.remove(entry)
        self.give_back(entry)

    def output_ids(self, request_id: int) -> Sequence[int]:
        """The generated tokens of a request that is done."""
        entry = self.done[request_id]
        return entry.tokens[len(entry.request.token_ids) :]

    # ---- blocks

    def blocks(self, num_tokens: int) -> int:
        """Blocks for so many tokens."""
        return -(-num_tokens // self.block_size)

    def take(self, entry: Entry, num_blocks: int) -> None:
        """Give a request blocks."""
        self.free -= num_blocks
        entry.num_blocks += num_blocks

    def give_back(self, entry: Entry) -> None:
        """Take a request's blocks back; after the step, if one is in flight."""
        if self.in_flight:
            self.deferred += entry.num_blocks
        else:
            self.free += entry.num_blocks
        entry.num_blocks = 0

    def num_free_blocks(self) -> int:
        """Free blocks."""
        return self.free


class SwappingScheduler(ReferenceScheduler):
    """Keeps the KV of preempted requests elsewhere; serves no priorities and no prompts beyond the budget."""

    features = SchedulerFeature.CACHED_TOKENS | SchedulerFeature.FAIR

    def kept(self, entry: Entry) -> int:
        """All of it, but one token at least is computed."""
        return min(entry.num_computed, len(entry.tokens) - 1)


class LastInFirstOut(ReferenceScheduler):
    """Serves the youngest first: allowed without FAIR."""

    features = SchedulerFeature.CHUNKED_PREFILL

    def order(self, entry: Entry) -> object:
        """The youngest."""
        return -entry.arrival

    def victim(self) -> Entry:
        """The oldest."""
        return min(self.running, key=lambda entry: entry.urgency)


class MergingScheduler(ReferenceScheduler):
    """Waits a moment for a batch."""

    max_idle_s = 0.05

    def schedule(self) -> Step:
        """Run nothing until the window is over."""
        if self.waiting and not self.running:
            self.opened = getattr(self, "opened", self.clock())
            if self.clock() - self.opened < self.max_idle_s - 0.001:
                return Step()
            del self.opened
        return super().schedule()
