"""Choosing steps: what the scheduler does for every step, and how it fills, empties and overfills a pool.

Counters are those of the cache, and what the steps add up to. Calls of functions are counted too: a scheduler
that begins to do something for each sequence of a batch shows there.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pagedkv import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import SchedulerConfig
from pagedkv.request import Request, TokenPrompt
from pagedkv.scheduler import RequestState, ScheduledStep, Scheduler, StepResult
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="scheduler", meters=("python_calls",))

MakeCache = Callable[..., BlockManager]
Branches = Callable[[ScheduledStep], Mapping[int, Sequence[int]]]

STEP_NS = 10_000_000
ROUNDS = 3  # of what takes long
TOKENS = np.arange(4096, dtype=np.int32)


def no_branches(_step: ScheduledStep) -> Mapping[int, Sequence[int]]:
    """Every sequence goes on with one token."""
    return {}


@dataclass
class Served:
    """A scheduler, and what its steps add up to.

    Attributes:
        scheduler: the scheduler.
        branch: says which sequences go on with several tokens, or with none.
    """

    scheduler: Scheduler
    branch: Branches = no_branches
    num_steps: int = 0
    num_decodes: int = 0
    num_prefilled: int = 0
    max_decodes: int = 0
    num_preemptions: int = 0
    num_lost: int = 0
    num_copies: int = 0

    def add(self, request_id: int, num_tokens: int, max_tokens: int, num_sequences: int = 1) -> None:
        """Send a request whose prompt is like no other's; some are more urgent than others."""
        first = 10_000 * request_id
        prompt = TokenPrompt(np.arange(first, first + num_tokens, dtype=np.int32))
        self.scheduler.add(
            Request(
                request_id=request_id,
                prompt=prompt,
                max_tokens=max_tokens,
                num_sequences=num_sequences,
                priority=request_id % 3,
            )
        )

    def run(self, num_steps: int) -> None:
        """Run so many steps, 10 ms each, or until nothing is live."""
        scheduler = self.scheduler
        for _ in range(num_steps):
            if not scheduler.requests:
                return
            step = scheduler.schedule()
            scheduler.clock.sleep_until(scheduler.clock.now_ns() + STEP_NS)
            self._count(step)
            if step:
                result = StepResult(token_ids=TOKENS[: step.num_sampled], branches=self.branch(step))
                self._count_finished(scheduler.commit(step, result))

    def drain(self) -> None:
        """Run until nothing is live."""
        while self.scheduler.requests:
            self.run(64)

    def counters(self) -> dict[str, int]:
        """All of it, for a benchmark to record."""
        return {
            "decodes_max": self.max_decodes,
            "decodes_sum": self.num_decodes,
            "preemptions": self.num_preemptions,
            "prefilled_tokens": self.num_prefilled,
            "recomputed_tokens": self.num_lost,
            "scheduled_steps": self.num_steps,
            "step_copies": self.num_copies,
        }

    def _count(self, step: ScheduledStep) -> None:
        num_decodes = len(step.decodes)
        self.num_steps += 1
        self.num_decodes += num_decodes
        self.num_prefilled += step.num_tokens - num_decodes
        self.max_decodes = max(self.max_decodes, num_decodes)
        self.num_copies += len(step.copies)

    def _count_finished(self, finished: Sequence[RequestState]) -> None:
        for request in finished:
            self.num_preemptions += request.num_preemptions
            self.num_lost += request.num_lost_tokens


def served(cache: BlockManager, branch: Branches = no_branches, **settings: Any) -> Served:
    """A scheduler over a cache, on a virtual clock."""
    return Served(Scheduler(cache, SchedulerConfig(**settings), VirtualClock()), branch)


def running(batch: Served) -> Served:
    """The same scheduler when everybody decodes, counted from then on."""
    while batch.scheduler.num_waiting:
        batch.run(1)
    return Served(batch.scheduler, batch.branch)


@pytest.mark.parametrize("batch_size", [16, 256])
def test_steady_decode(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, batch_size: int) -> None:
    """Nobody comes or goes for 32 steps; their block boundaries do not fall together."""

    def begin() -> Served:
        batch = served(pagedkv_cache(num_blocks=16_384), max_batch_tokens=8192)
        for request_id in range(batch_size):
            batch.add(request_id, 100 + request_id % 16, 64)
        return running(batch)

    def decode(batch: Served) -> Served:
        batch.run(32)
        return batch

    pagedkv_benchmark.record(**pagedkv_benchmark(decode, setup=begin).counters())


def test_one_joins_one_leaves(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache) -> None:
    """With each of 64 steps a request ends, and another one begins, beside 255 others."""

    def begin() -> Served:
        batch = served(pagedkv_cache(num_blocks=16_384), max_batch_tokens=8192, max_running=512)
        for request_id in range(256):
            batch.add(request_id, 100 + request_id % 16, 2 + request_id)
        return running(batch)

    def decode(batch: Served) -> Served:
        for step in range(64):
            batch.add(1000 + step, 120, 256)
            batch.run(1)
        return batch

    pagedkv_benchmark.record(**pagedkv_benchmark(decode, setup=begin).counters())


@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_merge_window_ms": 45.0}, {"max_chunk_tokens": 64, "length_buckets": (64, 256)}],
    ids=["plain", "window", "chunks"],
)
def test_bursts(
    pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, rng: random.Random, settings: dict[str, Any]
) -> None:
    """Every 24 steps, 32 requests come within a few steps; prompts of 8 to 1000 tokens."""
    lengths = [min(1000, 8 + int(rng.lognormvariate(4.5, 1))) for _ in range(256)]
    outputs = [1 + rng.randrange(48) for _ in lengths]

    def serve() -> Served:
        batch = served(pagedkv_cache(num_blocks=4096), max_batch_tokens=1024, max_running=96, **settings)
        for burst in range(8):
            for place in range(32):
                request_id = 32 * burst + place
                batch.add(request_id, lengths[request_id], outputs[request_id])
                if place % 8 == 7:
                    batch.run(1)
            batch.run(20)
        batch.drain()
        return batch

    pagedkv_benchmark.record(**pagedkv_benchmark(serve, rounds=ROUNDS).counters())


@pytest.mark.parametrize(
    "settings",
    [{"policy": "fcfs"}, {"policy": "lifo"}, {"policy": "priority"}, {"adaptive_batch_size": True}],
    ids=["fcfs", "lifo", "priority", "adaptive"],
)
def test_preemption_churn(
    pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, settings: dict[str, Any]
) -> None:
    """Requests that grow to several times their prompts share a pool of a quarter of what they need."""

    def serve() -> Served:
        cache = pagedkv_cache(num_blocks=240, prefix_caching=False)
        batch = served(cache, watermark_ratio=0.02, **settings)
        for request_id in range(64):
            batch.add(request_id, 32 + 7 * request_id % 64, 96 + 11 * request_id % 96)
            batch.run(1)
        batch.drain()
        return batch

    pagedkv_benchmark.record(**pagedkv_benchmark(serve, rounds=ROUNDS).counters())


@pytest.mark.parametrize("num_blocks", [4096, 512], ids=["room", "tight"])
def test_samples(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, num_blocks: int) -> None:
    """Eight samples of each of 24 prompts, which fork behind the prompt."""

    def samples(step: ScheduledStep) -> Mapping[int, Sequence[int]]:
        firsts = [each for each in step.sampling() if each.request.num_sequences_begun == 1]
        return {each.seq_id: range(8) for each in firsts}

    def serve() -> Served:
        batch = served(pagedkv_cache(num_blocks=num_blocks), samples)
        for request_id in range(24):
            batch.add(request_id, 150 + 5 * request_id, 40, num_sequences=8)
        batch.drain()
        return batch

    pagedkv_benchmark.record(**pagedkv_benchmark(serve, rounds=ROUNDS).counters())


@pytest.mark.parametrize("fork_mode", ["lazy", "eager"])
def test_beams(
    pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, rng: random.Random, fork_mode: str
) -> None:
    """Four beams of each of 16 prompts; with each step some beams go on twice, and as many are given up."""
    given_up = [rng.sample(range(4), 2) for _ in range(48)]

    def beams(step: ScheduledStep) -> Mapping[int, Sequence[int]]:
        branches: dict[int, Sequence[int]] = {}
        for request in dict.fromkeys(each.request for each in step.sampling()):
            if request.num_sequences_begun == 1:
                branches[request.sequences[0].seq_id] = range(4)
            else:
                lost, doubled = given_up[request.sequences[0].num_output_tokens % len(given_up)]
                branches[request.sequences[lost].seq_id] = ()
                branches[request.sequences[doubled].seq_id] = (1, 2)
        return branches

    def serve() -> Served:
        batch = served(pagedkv_cache(num_blocks=4096, fork_mode=fork_mode), beams)
        for request_id in range(16):
            batch.add(request_id, 100 + 9 * request_id, 48, num_sequences=4)
        batch.drain()
        return batch

    pagedkv_benchmark.record(**pagedkv_benchmark(serve, rounds=ROUNDS).counters())
