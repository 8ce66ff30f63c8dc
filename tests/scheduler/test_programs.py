"""Random lives of requests: samples, beams, preemptions, aborts and failed steps, on shadow memory."""

from functools import partial
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.errors import RequestRefused
from pagedkv.events import RequestPreempted, StepCommitted, StepScheduled
from pagedkv.offload.tiers import PageTiers
from pagedkv.request import Request, TokenPrompt
from pagedkv.scheduler import ScheduledStep, Scheduler, SequenceState, StepResult
from tests.scheduler.shadow_model import ShadowModel
from tests.scheduler.shadow_mover import ShadowMover

NUM_TOKENS = 3  # so few different ones that prefixes meet
STOP = 2
TOKEN_NS = 3_000_000  # longer than a page takes, so that pages are worth bringing

configs = st.fixed_dictionaries(
    {
        "max_batch_tokens": st.sampled_from((4, 5, 8, 32)),
        "max_running": st.integers(4, 8),
        "policy": st.sampled_from(("fcfs", "lifo", "priority")),
        "max_chunk_tokens": st.sampled_from((None, 1, 3)),
        "watermark_ratio": st.sampled_from((0.0, 0.2)),
        "max_overtakes": st.integers(0, 2),
        "max_wait_ms": st.sampled_from((None, 0.0, 20.0)),
        "batch_merge_window_ms": st.sampled_from((0.0, 3.0)),
        "length_buckets": st.sampled_from(((), (4,))),
        "adaptive_batch_size": st.booleans(),
    }
)

tiers = st.fixed_dictionaries(
    {
        "num_slots": st.integers(1, 8),
        "num_places": st.integers(0, 8),
        "seed": st.none() | st.integers(0, 2**16),
        "policy": st.sampled_from(("lru", "arc", "fifo")),
        "prefetch_blocks": st.sampled_from((0, 2, 8)),
        "queue_depth": st.sampled_from((1, 4)),
        "page_in_timeout_ms": st.sampled_from((0.0, 5.0, 2000.0)),
    }
)


class Lives(RuleBasedStateMachine):
    """Requests come, run, branch, are cut short; every step is checked on shadow memory."""

    @initialize(
        num_blocks=st.integers(4, 12),
        block_size=st.integers(1, 4),
        prefix_caching=st.booleans(),
        fork_mode=st.sampled_from(("lazy", "eager", "full_blocks")),
        config=configs,
        tiers=st.none() | tiers,
    )
    def make(self, config: dict[str, Any], tiers: dict[str, Any] | None = None, **cache: Any) -> None:
        self.clock = VirtualClock()
        mover, factory = None, None
        if tiers is not None and cache["prefix_caching"]:
            sizes = {name: tiers[name] for name in ("num_slots", "num_places", "seed")}
            mover = ShadowMover(self.clock, **sizes)
            settings = {name: value for name, value in tiers.items() if name not in sizes}
            factory = partial(PageTiers, mover, OffloadConfig(**settings), clock=self.clock)
        blocks = BlockManager(CacheConfig(**cache), factory)
        self.scheduler = Scheduler(blocks, SchedulerConfig(**config), self.clock)
        self.model = ShadowModel(self.scheduler)
        if mover is not None:
            mover.attach(self.model.slots, blocks.config.block_size)
        self.told: list[object] = []
        self.scheduler.events.attach(self.told.append)
        self.step: ScheduledStep | None = None
        self.next_id = 0
        self.ended: dict[int, str] = {}
        self.asked: dict[int, Request] = {}

    @rule(
        prompt=st.lists(st.integers(0, NUM_TOKENS - 1), min_size=1, max_size=12),
        max_tokens=st.integers(1, 8),
        num_sequences=st.sampled_from((1, 1, 2, 4)),
        priority=st.integers(0, 2),
        stops=st.booleans(),
    )
    def add(self, prompt: list[int], max_tokens: int, num_sequences: int, priority: int, stops: bool) -> None:
        request = Request(
            request_id=self.next_id,
            prompt=TokenPrompt(prompt),
            max_tokens=max_tokens,
            num_sequences=num_sequences,
            priority=priority,
            stop_token_ids=(STOP,) if stops else (),
        )
        self.next_id += 1
        try:
            self.scheduler.add(request)
        except RequestRefused as refused:
            assert refused.needed > refused.available
        else:
            self.asked[self.next_id - 1] = request

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 7), more=st.lists(st.integers(0, NUM_TOKENS - 1), max_size=3))
    def add_again(self, pick: int, more: list[int]) -> None:
        """A prompt that came before, as the next turn of a conversation has it."""
        every = list(self.asked.values())
        prompt = every[pick % len(every)].prompt
        assert isinstance(prompt, TokenPrompt)
        self.add([*prompt.token_ids.tolist(), *more], 2, 1, 0, False)

    @precondition(lambda self: self.step is None)
    @rule(ms=st.integers(0, 10))
    def schedule(self, ms: int) -> None:
        self.clock.advance(ms * 1_000_000)
        step = self.scheduler.schedule()
        assert step.num_tokens <= self.scheduler.config.max_batch_tokens
        assert step.batch_size <= self.scheduler.config.max_running
        self._check_groups(step)
        if step:
            self.step = step

    def _check_groups(self, step: ScheduledStep) -> None:
        """All sequences of a request decode together, next to each other and in their order."""
        decoding = list(step.decodes.sequences)
        for request in dict.fromkeys(each.request for each in decoding):
            first = decoding.index(request.sequences[0])
            assert decoding[first : first + len(request.sequences)] == request.sequences

    @precondition(lambda self: self.step is not None)
    @rule(seed=st.integers(0, 2**32 - 1))
    def commit(self, seed: int) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        self.model.run(step)
        self.clock.advance(step.num_tokens * TOKEN_NS)
        rng = np.random.default_rng(seed)
        sampling = step.sampling()
        tokens = rng.integers(0, NUM_TOKENS, len(sampling)).astype(np.int32)
        branches = self._branches([each for each in sampling if each.is_live], rng)
        before = {each.seq_id: each.output_ids.tolist() for each in sampling if each.is_live}
        finished = self.scheduler.commit(step, StepResult(token_ids=tokens, branches=branches))
        self._check_tokens(step, tokens, branches, before)
        for request in {each.request for each in sampling if each.seq_id in before}:
            assert request.first_token_ns is not None
        for request in finished:
            assert isinstance(request.request_id, int)
            self._ends(request.request_id, "finished")
            for sequence in request.finished:
                self._check_end(request.request, sequence)
        self.scheduler.cache.check_integrity()

    def _branches(self, sampling: list[SequenceState], rng: np.random.Generator) -> dict[int, list[int]]:
        """First tokens of samples; now and then a beam is given up, and another one continues twice."""
        branches: dict[int, list[int]] = {}
        for request in dict.fromkeys(each.request for each in sampling):
            mine = [each for each in sampling if each.request is request]
            if request.request.num_sequences > 1 and request.num_sequences_begun == 1:
                count = request.request.num_sequences
                branches[mine[0].seq_id] = rng.integers(0, NUM_TOKENS, count).tolist()
            elif len(mine) > 1 and len(mine) == len(request.sequences) and rng.integers(2):
                up, twice = rng.permutation(len(mine))[:2]
                branches[mine[up].seq_id] = []
                branches[mine[twice].seq_id] = rng.integers(0, NUM_TOKENS, 2).tolist()
        return branches

    def _check_tokens(
        self,
        step: ScheduledStep,
        tokens: np.ndarray[Any, Any],
        branches: dict[int, list[int]],
        before: dict[int, list[int]],
    ) -> None:
        for sequence, token in zip(step.sampling(), tokens.tolist(), strict=True):
            if sequence.seq_id in before and sequence.seq_id not in branches:
                assert sequence.output_ids.tolist() == [*before[sequence.seq_id], token]

    def _check_end(self, asked: Request, sequence: SequenceState) -> None:
        outputs = sequence.output_ids.tolist()
        if sequence.finish_reason == "stop":
            assert outputs[-1] in asked.stop_token_ids
        else:
            assert sequence.finish_reason == "length"
            assert len(outputs) == asked.max_tokens
        assert not {*outputs[:-1]} & {*asked.stop_token_ids}

    @precondition(lambda self: self.step is not None)
    @rule()
    def fail(self) -> None:
        assert self.step is not None
        step, self.step = self.step, None
        tokens = {i: [s.output_ids.tolist() for s in r.sequences] for i, r in self.scheduler.requests.items()}
        self.scheduler.fail(step)
        after = {i: [s.output_ids.tolist() for s in r.sequences] for i, r in self.scheduler.requests.items()}
        assert after == tokens
        assert self.scheduler.num_running == 0
        self._check_home()

    @precondition(lambda self: self.scheduler.requests)
    @rule(pick=st.integers(0, 7))
    def abort(self, pick: int) -> None:
        live = list(self.scheduler.requests)
        request_id = live[pick % len(live)]
        request = self.scheduler.abort(request_id)
        assert all(each.finish_reason == "abort" for each in request.finished[-1:])
        assert isinstance(request_id, int)
        self._ends(request_id, "aborted")
        self.scheduler.cache.check_integrity()

    def _ends(self, request_id: int, how: str) -> None:
        assert request_id not in self.ended
        self.ended[request_id] = how

    def _check_home(self) -> None:
        """All blocks are free, but those that pages are being brought to, or wait in for their request."""
        cache = self.scheduler.cache
        if cache.tiers is None or not self.scheduler.requests:
            self._settle_pages()
            assert cache.pool.num_free == cache.pool.num_blocks

    def _settle_pages(self) -> None:
        """Let everything that is on its way come."""
        cache = self.scheduler.cache
        while cache.tiers is not None and cache.tiers.num_rising:
            self.clock.advance(1_000_000)
            cache.poll_page_ins()

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for number in range(2000):
            if self.step is not None:
                self.commit(number)
            elif self.scheduler.requests:
                self.schedule(5)
            else:
                break
        assert not self.scheduler.requests
        assert self.ended.keys() == self.asked.keys()
        assert self.scheduler.num_running == self.scheduler.num_waiting == 0
        self._check_home()
        self._check_told()

    def _check_told(self) -> None:
        """What the events say adds up."""
        commits = sum(isinstance(event, StepCommitted) for event in self.told)
        steps = sum(isinstance(event, StepScheduled) and event.batch_size > 0 for event in self.told)
        assert commits <= steps
        for event in self.told:
            if isinstance(event, RequestPreempted):
                assert event.num_free_after >= event.num_free_before
                assert event.num_lost_tokens >= 0


def test_lives_of_requests() -> None:
    """Whatever comes, branches, fails and is aborted: reads are right, and everything ends and comes home."""
    run_state_machine_as_test(
        Lives, settings=settings(max_examples=80, stateful_step_count=40, deadline=None)
    )


class PagedLives(Lives):
    """The same over tiers below a small pool, where most prompts come again and find pages."""

    @initialize(
        num_blocks=st.integers(4, 8),
        block_size=st.integers(1, 2),
        fork_mode=st.sampled_from(("lazy", "eager", "full_blocks")),
        config=configs,
        tiers=tiers,
        num_slots=st.integers(4, 24),
    )
    def make(self, config: dict[str, Any], tiers: dict[str, Any], num_slots: int, **cache: Any) -> None:  # type: ignore[override]
        super().make(config, {**tiers, "num_slots": num_slots}, prefix_caching=True, **cache)


def test_lives_over_pages() -> None:
    """Whatever is evicted, comes back, fails and is late: reads are right, and everything ends."""
    run_state_machine_as_test(
        PagedLives, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_a_crowd_of_groups() -> None:
    """The machine by hand: groups that outgrow the pool are preempted, regroup, and finish."""
    lives = Lives()
    lives.make(
        {"max_batch_tokens": 32, "max_running": 8},
        num_blocks=10,
        block_size=2,
        prefix_caching=False,
        fork_mode="lazy",
    )
    for _ in range(4):
        lives.add([0, 1, 0], 8, 2, 0, False)
    lives.teardown()
    assert any(isinstance(event, RequestPreempted) for event in lives.told)
    assert lives.ended == dict.fromkeys(range(4), "finished")
