"""Percentiles that an engine tells."""

from collections.abc import Sequence
from math import isnan

import pytest

from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import toy_engine


@pytest.mark.parametrize(
    ("extra_ms", "p50_s", "p99_s"),
    [
        ([0], 0.001, 0.001),
        ([0, 4], 0.001, 0.005),
        ([9, 4, 0], 0.005, 0.010),
        ([7, 2, 5, 0], 0.003, 0.008),
        ([*range(200)], 0.100, 0.198),
    ],
)
def test_percentiles_are_nearest_ranks(extra_ms: Sequence[int], p50_s: float, p99_s: float) -> None:
    """Each is a time that a step did take, and none between two of them."""
    engine, model = toy_engine(max_model_len=None)
    waits = iter(extra_ms)
    model.before = lambda step: model.clock.advance(next(waits) * 1_000_000)
    params = SamplingParams(max_tokens=len(extra_ms), temperature=0.0, ignore_eos=True)
    engine.generate([[1]], params)
    stats = engine.stats()

    assert stats.num_steps == len(extra_ms)
    assert (stats.step_p50_s, stats.step_p99_s) == (p50_s, p99_s)
    assert stats.ttft_p50_s == stats.ttft_p99_s == (1 + extra_ms[0]) / 1000


def test_there_are_none_of_nothing() -> None:
    """Before the first step no percentile is a number."""
    stats = toy_engine()[0].stats()

    assert isnan(stats.step_p50_s)
    assert isnan(stats.ttft_p99_s)
    assert isnan(stats.inter_token_p50_s)
