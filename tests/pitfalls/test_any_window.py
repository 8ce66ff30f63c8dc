"""Whatever a window holds: detectors answer, with numbers, and with something to change."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.pitfalls import detect, timeline
from pagedkv.stats import COLUMNS, StatsWindow
from tests.examples import examples

SCALES = (1, 2, 10, 1_000, 10**6, 10**9)


def window(seed: int) -> StatsWindow:
    """Steps that may make no sense together."""
    rng = np.random.default_rng(seed)
    num_steps = int(rng.integers(1, 60))
    offloads = (None, OffloadConfig(), OffloadConfig(prefetch_blocks=0, io_threads=1, nvme_bytes=1))
    return StatsWindow(
        cache=CacheConfig(
            num_blocks=(1, 64, 5_000)[rng.integers(3)], block_size=(1, 16, 256)[rng.integers(3)]
        ),
        scheduler=(None, SchedulerConfig())[rng.integers(2)],
        offload=offloads[rng.integers(3)],
        columns={name: rng.integers(0, SCALES[rng.integers(6)], num_steps) for name in COLUMNS},
    )


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_findings_are_whole(seed: int) -> None:
    """Each has finite numbers, a sentence and advice; equal windows have equal ones; time is divided."""
    looked_at = window(seed)
    found = detect(looked_at)

    assert found == detect(window(seed))
    assert [each.severity for each in found] == sorted((each.severity for each in found), reverse=True)
    for each in found:
        json.dumps(each.as_dict(), allow_nan=False)
        assert each.summary
        assert each.advice
    for stretch in timeline(looked_at, num_steps=16):
        assert 0 <= stretch.start < stretch.stop <= len(looked_at)
