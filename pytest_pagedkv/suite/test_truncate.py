"""Speculative decoding: drafts are appended, and mostly rejected."""

import random
from collections.abc import Callable

import pytest

from pagedkv import BlockManager
from pytest_pagedkv.perf.benchmark import Benchmark
from pytest_pagedkv.suite.conftest import Shape

pytestmark = pytest.mark.pagedkv_perf(group="truncate")


@pytest.mark.parametrize("num_samples", [1, 2])
def test_rejected_drafts(
    pagedkv_benchmark: Benchmark,
    pagedkv_cache: Callable[..., BlockManager],
    rng: random.Random,
    shape: Shape,
    num_samples: int,
) -> None:
    """Drafts of eight tokens are cut back to what was accepted, across block boundaries; samples share."""
    accepted = [rng.randrange(9) for _ in range(200)]

    def speculate(cache: BlockManager) -> BlockManager:
        cache.admit(0, range(200))
        for seq_id in range(1, num_samples):
            cache.fork(0, seq_id)
        for step, num_accepted in enumerate(accepted):
            seq_id = step % num_samples
            cache.append(seq_id, [step] * 8)
            cache.truncate(seq_id, cache.num_tokens(seq_id) - 8 + num_accepted)
        return cache

    cache = pagedkv_benchmark(speculate, setup=lambda: pagedkv_cache(num_blocks=1024))
    pagedkv_benchmark.record(**shape(cache))


def test_undone_answers(
    pagedkv_benchmark: Benchmark, pagedkv_cache: Callable[..., BlockManager], shape: Shape
) -> None:
    """Answers of six blocks are undone and, after others took some of the room, asked for again.

    How much of them is still there depends on the order in which a truncation gave its blocks back.
    """
    prompt = list(range(64))

    def converse(cache: BlockManager) -> BlockManager:
        cache.admit(0, prompt)
        for turn in range(1, 41):
            answer = [1000 * turn + i for i in range(96)]
            cache.append(0, answer)
            cache.truncate(0, len(prompt))
            cache.admit(1, [-1000 * turn - i for i in range(200 + turn)])
            cache.release(1)
            cache.admit(2, prompt + answer + [turn])
            cache.release(2)
        return cache

    cache = pagedkv_benchmark(converse, setup=lambda: pagedkv_cache(num_blocks=24))
    pagedkv_benchmark.record(**shape(cache))
