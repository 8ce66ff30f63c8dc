"""Waiting requests get their pages back: in time, not for ever, and never at the cost of those that run."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, ForkMode, OffloadConfig, SchedulerConfig
from pagedkv.events import PageInStarted, RequestAwaitedPages, RequestPreempted
from pagedkv.offload.tiers import PageTiers
from pagedkv.request import KeyPrompt, Request, TokenPrompt
from pagedkv.scheduler import ScheduledStep, Scheduler, StepResult
from tests.scheduler.shadow_model import ShadowModel
from tests.scheduler.shadow_mover import ShadowMover

MS = 1_000_000
STEP_NS = 40 * MS  # a page of the mover takes about 2 ms


class Tiered:
    """A scheduler over a pool of 8 blocks of 2 tokens and tiers below it, on shadow memory."""

    def __init__(
        self, num_blocks: int = 8, fails: bool = False, fork_mode: ForkMode = "lazy", **settings: Any
    ) -> None:
        self.clock = VirtualClock()
        self.mover = ShadowMover(self.clock, num_slots=40, num_places=0, seed=1 if fails else None)
        names = {"prefetch_blocks", "page_in_timeout_ms"} & settings.keys()
        offload = OffloadConfig(**{name: settings.pop(name) for name in names})
        keys = settings.pop("prefix_keys", "tokens")
        cache = BlockManager(
            CacheConfig(num_blocks=num_blocks, block_size=2, prefix_keys=keys, fork_mode=fork_mode),
            partial(PageTiers, self.mover, offload, clock=self.clock),
        )
        self.scheduler = Scheduler(cache, SchedulerConfig(watermark_ratio=0.0, **settings), self.clock)
        self.model = ShadowModel(self.scheduler)
        self.mover.attach(self.model.slots, 2)
        self.told: list[Any] = []
        self.scheduler.events.attach(self.told.append)

    def add(self, request_id: int, tokens: list[int], max_tokens: int = 1, num_sequences: int = 1) -> None:
        """A request with this prompt."""
        request = Request(
            request_id=request_id,
            prompt=TokenPrompt(tokens),
            max_tokens=max_tokens,
            num_sequences=num_sequences,
        )
        self.scheduler.add(request)

    def step(self) -> ScheduledStep:
        """Schedule, run on shadow memory, commit; what is empty takes a millisecond."""
        step = self.scheduler.schedule()
        self.clock.advance(STEP_NS if step else MS)
        if step:
            if self.scheduler.cache.config.prefix_keys == "tokens":
                self.model.run(step)
            self.scheduler.commit(step, StepResult(token_ids=np.ones(step.num_sampled, np.int32)))
        self.scheduler.cache.check_integrity()
        return step

    def drain(self, most: int = 300) -> None:
        """Run until nothing is live."""
        for _ in range(most):
            if not self.scheduler.requests:
                return
            self.step()
        raise AssertionError(f"{list(self.scheduler.requests)} are live after {most} steps")

    def of(self, kind: type) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.told if type(event) is kind]


A, B = list(range(100, 113)), list(range(500, 516))


def warmed(num_blocks: int = 8, **settings: Any) -> Tiered:
    """A was computed, and another one has taken all blocks, so that A is in pages."""
    tiered = Tiered(num_blocks, **settings)
    tiered.add(0, A)
    tiered.drain()
    tiered.add(1, list(range(200, 200 + 2 * num_blocks)))
    tiered.drain()
    assert tiered.scheduler.cache.prefix_hit(A).num_tokens == 0
    tiered.told.clear()
    return tiered


def test_a_prefix_comes_back_instead_of_being_computed() -> None:
    """Its request is held while six pages come, and computes the last token alone."""
    tiered = warmed()
    tiered.add(2, A)
    first = tiered.step()
    assert not first
    assert first.awaits_pages
    computed = sum(tiered.step().num_tokens for _ in range(30))
    assert computed == 1
    [awaited] = tiered.of(RequestAwaitedPages)
    assert (awaited.request_id, awaited.num_pages, awaited.gave_up) == (2, 6, False)
    assert 0 < awaited.wait_ns < STEP_NS


def test_it_is_computed_where_that_is_quicker() -> None:
    """Steps that take no time beat any link."""
    tiered = warmed()
    for _ in range(40):
        tiered.scheduler._paging.speed.observe(100, 100, 1)
    tiered.add(2, A)
    assert tiered.step().num_tokens == len(A)
    assert not tiered.of(PageInStarted)


def test_pages_that_do_not_come_are_not_waited_for_any_longer() -> None:
    """At the limit the request begins without them; they arrive later, and are cached."""
    tiered = warmed(num_blocks=16, page_in_timeout_ms=3.0)
    tiered.add(2, A)
    tiered.drain()
    [awaited] = tiered.of(RequestAwaitedPages)
    assert awaited.gave_up
    assert awaited.wait_ns >= 3 * MS


def test_pages_come_before_the_turn_of_their_request() -> None:
    """While another one runs, those of the next in line are brought; it does not wait."""
    tiered = warmed(num_blocks=12, max_running=1)
    tiered.add(2, [7], max_tokens=6)
    tiered.add(3, A)
    tiered.drain()
    assert [event.is_ahead for event in tiered.of(PageInStarted)] == [True]
    assert [(event.request_id, event.wait_ns) for event in tiered.of(RequestAwaitedPages)] == [(3, 0)]


def test_a_long_prefix_comes_in_parts() -> None:
    """With room for four blocks ahead, four pages are in time, and two are waited for."""
    tiered = warmed(num_blocks=12, max_running=1, prefetch_blocks=4)
    tiered.add(2, [7], max_tokens=6)
    tiered.add(3, A)
    tiered.drain()
    told = [(event.num_pages, event.wait_ns > 0) for event in tiered.of(RequestAwaitedPages)]
    assert told == [(4, False), (2, True)]


def test_pages_that_wait_for_their_request_give_way_to_those_that_run() -> None:
    """Nobody is preempted while blocks are held for a request whose turn has not come."""
    tiered = warmed(num_blocks=8, max_running=1)
    tiered.add(2, [7, 8], max_tokens=13)
    tiered.add(3, A)
    tiered.drain()
    assert next(event.is_ahead for event in tiered.of(PageInStarted))
    assert not tiered.of(RequestPreempted)


def test_a_request_begins_that_was_held_for_room_before_its_pages_came() -> None:
    """The blocks that it needs are counted anew: those of its pages are its own now."""
    tiered = warmed(num_blocks=8)
    tiered.add(2, [1, 2, 3, 4, 5, 6], max_tokens=3)
    tiered.add(3, A, max_tokens=3)
    tiered.drain()


def test_pages_behind_one_that_failed_do_not_keep_their_request_out() -> None:
    """Of a prefix as large as the pool some pages fail; the request computes what is missing."""
    tiered = Tiered(fails=True)
    for turn in range(12):
        tiered.add(2 * turn, A, max_tokens=3)
        tiered.drain()
        tiered.add(2 * turn + 1, B[: 8 + turn % 8])
        tiered.drain()
    assert tiered.of(PageInStarted)
    assert tiered.mover.next_ns() is None
    assert tiered.scheduler.cache.pool.num_free == 8


def test_pages_from_before_a_failed_step_do_not_keep_their_request_out() -> None:
    """They are nobody's prefix any more, and their request needs all blocks but one."""
    tiered = warmed(max_running=1)
    tiered.add(2, [7], max_tokens=4)
    tiered.add(3, [*A, 1, 2], max_tokens=1)
    while not any(asked.ended_ns for asked in tiered.scheduler._paging._asked.values()):
        tiered.step()
    tiered.scheduler.fail(tiered.scheduler.schedule())
    tiered.drain()


def test_an_abort_while_pages_are_on_their_way() -> None:
    """They come, and are cached; every block is free then."""
    tiered = warmed()
    tiered.add(2, A)
    tiered.step()
    tiered.scheduler.abort(2)
    for _ in range(20):
        tiered.step()
    cache = tiered.scheduler.cache
    assert cache.pool.num_free == 8
    assert cache.prefix_hit(A).num_tokens == 12


def test_pages_do_not_come_into_blocks_that_a_copy_is_to_use() -> None:
    """A fork was aborted before its copy ran: what that writes is free, and not for pages before it has."""
    tiered = warmed(num_blocks=7, fork_mode="eager")
    tiered.add(2, [7, 8, 9], max_tokens=2, num_sequences=3)
    tiered.add(3, [50], max_tokens=9)
    step = tiered.scheduler.schedule()
    tiered.model.run(step)
    [parent, _] = step.sampling()
    tokens = np.ones(step.num_sampled, np.int32)
    tiered.scheduler.commit(step, StepResult(token_ids=tokens, branches={parent.seq_id: [1, 2, 3]}))
    tiered.scheduler.abort(2)
    tiered.add(4, A[:9])
    tiered.drain()
    assert tiered.of(PageInStarted)


def test_copies_that_nobody_needs_bar_no_pages() -> None:
    """All that forked was aborted, and nothing else runs."""
    tiered = warmed(fork_mode="eager")
    tiered.add(2, [7, 8, 9], max_tokens=2, num_sequences=3)
    step = tiered.scheduler.schedule()
    tiered.model.run(step)
    [parent] = step.sampling()
    tokens = np.ones(step.num_sampled, np.int32)
    tiered.scheduler.commit(step, StepResult(token_ids=tokens, branches={parent.seq_id: [1, 2, 3]}))
    tiered.scheduler.abort(2)
    tiered.add(4, A)
    assert tiered.step().awaits_pages
    tiered.drain()


def test_empty_steps_say_that_pages_that_were_given_up_still_hold_blocks() -> None:
    """Nobody waits for these pages any more, but for their blocks; so it is not idle that the steps are."""
    tiered = warmed(page_in_timeout_ms=3.0)
    tiered.add(2, A)
    while not tiered.of(RequestAwaitedPages):
        assert tiered.step().awaits_pages
    cache = tiered.scheduler.cache
    cache.reset_prefix_cache()
    num_empty = 0
    while not (step := tiered.step()):
        assert step.awaits_pages
        num_empty += 1
    assert num_empty
    tiered.drain()
    assert cache.pool.num_free == 8


@pytest.mark.parametrize("ids", [(), tuple(range(3))])
def test_a_preempted_request_of_a_trace_finds_its_own_blocks(ids: tuple[int, ...]) -> None:
    """Generated tokens, and prompts without ids, are known by their sequence: they need not be computed."""
    tiered = Tiered(num_blocks=12, prefix_keys="ids")
    for number, most in enumerate((13, 13)):
        prompt = KeyPrompt(6, [(number, each) for each in ids])
        tiered.scheduler.add(Request(request_id=number, prompt=prompt, max_tokens=most))
    tiered.drain()
    [preempted] = tiered.of(RequestPreempted)
    assert preempted.num_lost_tokens > 8
    assert sum(event.num_pages for event in tiered.of(PageInStarted)) >= 3
