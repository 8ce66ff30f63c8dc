"""Decode steps of a large batch: what the scheduler's thread pays for every generated token."""

from collections.abc import Callable

import pytest

from pagedkv import BlockManager
from pytest_pagedkv.perf.benchmark import Benchmark
from pytest_pagedkv.suite.conftest import Shape

pytestmark = pytest.mark.pagedkv_perf(group="decode")

NUM_STEPS = 32  # two blocks of 16: every sequence crosses a block boundary twice


@pytest.mark.parametrize("prefix_caching", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize("batch_size", [16, 256])
def test_decode_steps(
    pagedkv_benchmark: Benchmark,
    pagedkv_cache: Callable[..., BlockManager],
    shape: Shape,
    batch_size: int,
    prefix_caching: bool,
) -> None:
    """One token behind each sequence, step after step; their block boundaries do not fall together."""
    batch = list(range(batch_size))
    prompts = [range(1000 * i, 1000 * i + 100 + i % 16) for i in batch]

    def running_batch() -> BlockManager:
        cache = pagedkv_cache(num_blocks=16_384, block_size=16, prefix_caching=prefix_caching)
        for seq_id, prompt in enumerate(prompts):
            cache.admit(seq_id, prompt)
        return cache

    def decode(cache: BlockManager) -> BlockManager:
        for _ in range(NUM_STEPS):
            cache.append_batch(batch, batch)
        return cache

    pagedkv_benchmark.record(**shape(pagedkv_benchmark(decode, setup=running_batch)))
