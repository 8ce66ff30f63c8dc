"""Speculative decoding: drafts are appended, and mostly rejected."""

import random
from collections.abc import Callable

import pytest

from pagedkv import BlockManager
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="truncate")


@pytest.mark.parametrize("num_samples", [1, 2])
def test_rejected_drafts(
    pagedkv_benchmark: Benchmark,
    pagedkv_cache: Callable[..., BlockManager],
    rng: random.Random,
    num_samples: int,
) -> None:
    """Drafts of eight tokens are cut back to what was accepted, across block boundaries; samples share."""
    accepted = [rng.randrange(9) for _ in range(200)]

    def speculate(cache: BlockManager) -> None:
        cache.admit(0, range(200))
        for seq_id in range(1, num_samples):
            cache.fork(0, seq_id)
        for step, num_accepted in enumerate(accepted):
            seq_id = step % num_samples
            cache.append(seq_id, [step] * 8)
            cache.truncate(seq_id, cache.num_tokens(seq_id) - 8 + num_accepted)

    pagedkv_benchmark(speculate, setup=lambda: pagedkv_cache(num_blocks=1024))
