"""The prefix cache: looking up, filling, evicting, and taking back what was released."""

import random
from collections.abc import Callable

import pytest

from pagedkv import BlockManager
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="prefix cache")

MakeCache = Callable[..., BlockManager]

PROMPT = list(range(4096))


def run(cache: BlockManager, prompts: list[list[int]]) -> None:
    """Admit and release one prompt after the other."""
    for seq_id, prompt in enumerate(prompts):
        cache.admit(seq_id, prompt)
        cache.release(seq_id)


def test_lookup_warm(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache) -> None:
    """A cached prompt of 4096 tokens is looked up, from its tokens to the answer."""
    cache = pagedkv_cache(num_blocks=65_536)
    run(cache, [PROMPT])
    pagedkv_benchmark.record(found_tokens=pagedkv_benchmark(lambda: cache.lookup(PROMPT)))


def test_readmit(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache) -> None:
    """A released prompt of 4096 tokens comes back, wherever in the free queue its blocks stand."""
    cache = pagedkv_cache(num_blocks=65_536)
    run(cache, [PROMPT])
    pagedkv_benchmark(lambda: run(cache, [PROMPT]))


@pytest.mark.parametrize("num_blocks", [65_536, 1024], ids=["room", "evicting"])
def test_cold_prompts(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, num_blocks: int) -> None:
    """Prompts of 4096 tokens that were never seen enter the cache, with room or in place of others."""
    prompts = [list(range(4096 * i, 4096 * (i + 1))) for i in range(12)]

    def full_cache() -> BlockManager:
        cache = pagedkv_cache(num_blocks=num_blocks)
        run(cache, prompts[:4])
        return cache

    pagedkv_benchmark(lambda cache: run(cache, prompts[4:]), setup=full_cache)


def test_conversations_under_pressure(
    pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, rng: random.Random
) -> None:
    """Users of one system prompt talk in turns in a pool too small for all: order decides what hits."""
    system = list(range(300))
    histories = [system + [user] * 40 for user in range(24)]
    turns = []
    for _ in range(160):
        history = histories[int(rng.triangular(0, 24, 0))]
        history += [rng.randrange(50) for _ in range(rng.randrange(5, 60))]
        turns.append(list(history))
    pagedkv_benchmark(lambda cache: run(cache, turns), setup=lambda: pagedkv_cache(num_blocks=160))
