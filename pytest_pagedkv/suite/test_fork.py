"""Parallel samples and beams: copy-on-write, and how it explodes."""

import random
from collections.abc import Callable

import pytest

from pagedkv import BlockManager
from pytest_pagedkv.perf.benchmark import Benchmark
from pytest_pagedkv.suite.conftest import Shape

pytestmark = pytest.mark.pagedkv_perf(group="fork")

MakeCache = Callable[..., BlockManager]

NUM_PROMPTS = 8


@pytest.mark.parametrize("fork_mode", ["lazy", "eager"])
def test_parallel_samples(
    pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, shape: Shape, fork_mode: str
) -> None:
    """Eight prompts are sampled eight times each and decode as one batch."""
    samples = [[8 * p + i for i in range(8)] for p in range(NUM_PROMPTS)]

    def sample(cache: BlockManager) -> BlockManager:
        for prompt, (first, *others) in enumerate(samples):
            cache.admit(first, range(1000 * prompt, 1000 * prompt + 100 + 7 * prompt))
            for other in others:
                cache.fork(first, other)
        batch = [seq_id for of_prompt in samples for seq_id in of_prompt]
        for step in range(24):
            cache.append_batch(batch, [step + seq_id for seq_id in batch])
        return cache

    cache = pagedkv_benchmark(sample, setup=lambda: pagedkv_cache(num_blocks=4096, fork_mode=fork_mode))
    pagedkv_benchmark.record(**shape(cache))


@pytest.mark.parametrize("width", [4, 16])
def test_beam_search(
    pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, rng: random.Random, shape: Shape, width: int
) -> None:
    """Each step keeps `width` continuations, some of one parent, some of none: forks of forks of forks."""
    parents = [[rng.randrange(width) for _ in range(width)] for _ in range(40)]

    def search(cache: BlockManager) -> BlockManager:
        cache.admit(0, range(205))
        beams, next_id = [0] * width, 1
        for chosen in parents:
            children = range(next_id, next_id + width)
            for child, parent in zip(children, chosen, strict=True):
                cache.fork(beams[parent], child)
            for beam in dict.fromkeys(beams):
                cache.release(beam)
            beams, next_id = list(children), next_id + width
            cache.append_batch(beams, beams)
        return cache

    cache = pagedkv_benchmark(search, setup=lambda: pagedkv_cache(num_blocks=4096))
    pagedkv_benchmark.record(**shape(cache))
