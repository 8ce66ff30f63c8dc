"""Blocks and sequences that come and go: the allocator's daily work, and where fragmentation creeps in."""

import random
from collections.abc import Callable

import pytest

from pagedkv import BlockManager
from pytest_pagedkv.perf.benchmark import Benchmark
from pytest_pagedkv.suite.conftest import Shape

pytestmark = pytest.mark.pagedkv_perf(group="allocator")

MakeCache = Callable[..., BlockManager]


@pytest.mark.parametrize("num_blocks", [1, 8, 64, 512])
def test_allocate_and_free(pagedkv_benchmark: Benchmark, pagedkv_cache: MakeCache, num_blocks: int) -> None:
    """A request of this many blocks is served from a large pool and given back."""
    pool = pagedkv_cache(num_blocks=65_536).pool
    pagedkv_benchmark(lambda: pool.free(pool.allocate(num_blocks)))


@pytest.mark.parametrize("block_size", [1, 16, 64])
def test_churn(
    pagedkv_benchmark: Benchmark,
    pagedkv_cache: MakeCache,
    rng: random.Random,
    shape: Shape,
    block_size: int,
) -> None:
    """Sequences of very different lengths end in an order of their own while others take their blocks."""
    lengths = [min(2000, 1 + int(rng.lognormvariate(5, 1))) for _ in range(192)]
    prompts = [range(1000 * i, 1000 * i + n) for i, n in enumerate(lengths)]
    ends = [rng.randrange(64) for _ in prompts]

    def new_cache() -> BlockManager:
        return pagedkv_cache(num_blocks=262_144 // block_size, block_size=block_size, prefix_caching=False)

    def churn(cache: BlockManager) -> BlockManager:
        live: list[int] = []
        for seq_id, (prompt, end) in enumerate(zip(prompts, ends, strict=True)):
            cache.admit(seq_id, prompt)
            live.append(seq_id)
            if len(live) > 64:
                cache.release(live.pop(end))
        return cache

    pagedkv_benchmark.record(**shape(pagedkv_benchmark(churn, setup=new_cache)))
