"""Detectors, on windows made by hand: what they find, what they leave alone, and what they say."""

from typing import Any

import numpy as np
import pytest

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.errors import ConfigError
from pagedkv.pitfalls import (
    BatchCollapseThresholds,
    CowExplosionThresholds,
    Finding,
    FragmentationThresholds,
    Pitfall,
    Severity,
    Thresholds,
    detect,
    timeline,
)
from pagedkv.stats import COLUMNS, StatsWindow


def window(num_steps: int = 64, block_size: int = 16, num_blocks: int = 1000, **columns: Any) -> StatsWindow:
    """Steps of 1 ms in which nothing happens but what is given, for each step or for all."""
    settled = {"duration_ns": 10**6, "batch_size": 8, "num_free_blocks": num_blocks} | columns
    return StatsWindow(
        cache=CacheConfig(num_blocks=num_blocks, block_size=block_size),
        scheduler=SchedulerConfig(),
        columns={
            name: np.broadcast_to(np.asarray(settled.get(name, 0), np.int64), num_steps).copy()
            for name in COLUMNS
        },
    )


def fragmented(block_size: int, length: int, used: float = 0.8) -> StatsWindow:
    """A pool that is used by sequences of one length, each with half a block empty."""
    num_blocks = 10_000
    blocks_each = -(-length // block_size)
    num = int(used * num_blocks) // blocks_each
    wasted = 1_000_000 * (blocks_each * block_size - length) // (blocks_each * block_size)
    return window(
        block_size=block_size,
        num_blocks=num_blocks,
        num_free_blocks=num_blocks - num * blocks_each,
        num_sequences=num,
        fragmentation_ppm=wasted,
    )


def only(found: list[Finding]) -> Finding:
    """The one finding."""
    (finding,) = found
    return finding


def test_nothing_is_found_in_nothing() -> None:
    """An empty window and an idle one are healthy."""
    assert detect(window(0)) == []
    assert detect(window()) == []


def test_large_blocks_are_judged_by_the_lengths_that_they_hold() -> None:
    """Blocks of 512 tokens are a finding under prompts of 700, and none under prompts of 12 300."""
    finding = only(detect(fragmented(512, 700)))
    assert finding.pitfall is Pitfall.FRAGMENTATION
    assert finding.advice[0].change == "block_size=16 (now 512)"
    assert finding.evidence["fair_ratio"] < 0.02 < 0.3 < finding.evidence["wasted_ratio"]
    assert detect(fragmented(512, 12_300)) == []


def test_what_paging_costs_is_no_finding() -> None:
    """Sequences shorter than a block of 16 tokens waste much of it; smaller blocks are not asked for."""
    assert detect(fragmented(16, 9)) == []


def test_waste_that_nobody_needs_is_no_finding() -> None:
    """While most of the pool is free nothing is short."""
    assert detect(fragmented(512, 700, used=0.3)) == []


def test_copies_are_counted_in_slots_for_each_token_written() -> None:
    """As many copies are worse in larger blocks, and fewer than a few are left alone."""
    writes = {"num_written_tokens": 16, "num_copies": 2, "num_shared_writes": 2}
    assert detect(window(**writes)) == []
    finding = only(detect(window(block_size=64, **writes)))
    assert (finding.pitfall, finding.severity) == (Pitfall.COW_EXPLOSION, Severity.WARNING)
    assert finding.evidence["amplification"] == 8.0
    assert only(detect(window(block_size=128, **writes))).severity is Severity.CRITICAL
    assert detect(window(15, block_size=64, **writes)) == []


@pytest.mark.parametrize(("num_low", "is_found"), [(7, False), (8, True)])
def test_a_batch_collapses_after_eight_steps(num_low: int, is_found: bool) -> None:
    """Fewer steps below half of the average are chance; so are any number with nobody waiting."""
    sizes = [40] * 56 + [4] * num_low + [40] * (64 - 56 - num_low)
    found = detect(window(batch_size=sizes, num_waiting=1))
    assert [each.pitfall for each in found] == [Pitfall.BATCH_COLLAPSE] * is_found
    assert detect(window(batch_size=sizes)) == []


def test_a_collapse_says_what_fills_its_steps() -> None:
    """Where prompts take the tokens of the steps, smaller pieces of them come first."""
    sizes, prompts = [40] * 40 + [1] * 24, [0] * 40 + [2048] * 24
    finding = only(detect(window(batch_size=sizes, num_waiting=3, num_prefill_tokens=prompts)))
    assert finding.advice[0].change == "max_chunk_tokens=512 (now None)"
    without = only(detect(window(batch_size=sizes, num_waiting=3)))
    assert without.advice[0].change == 'policy="lifo" (now "fcfs")'


def test_thresholds_move_what_is_found() -> None:
    """Each is a setting, and is told beside the number that crossed it."""
    strict = Thresholds(fragmentation=FragmentationThresholds(excess_ratio=0.01))
    finding = only(detect(fragmented(64, 650), strict))
    assert finding.evidence["excess_ratio_threshold"] == 0.01
    assert detect(fragmented(64, 650)) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: FragmentationThresholds(excess_ratio=1.5),
        lambda: FragmentationThresholds(fair_block_size=0),
        lambda: CowExplosionThresholds(amplification=-1.0),
        lambda: CowExplosionThresholds(min_copies=0),
        lambda: BatchCollapseThresholds(time_ratio=float("nan")),
        lambda: BatchCollapseThresholds(reduced_steps=0),
    ],
)
def test_thresholds_are_checked(make: Any) -> None:
    """A number out of range is refused when the thresholds are made."""
    with pytest.raises(ConfigError):
        make()


def test_the_worst_comes_first() -> None:
    """A critical finding stands before a warning."""
    both = window(
        block_size=64, num_written_tokens=16, num_copies=2, batch_size=[40] * 32 + [1] * 32, num_waiting=1
    )
    assert [each.severity for each in detect(both)] == [Severity.CRITICAL, Severity.WARNING]


def test_a_timeline_joins_looks_that_touch() -> None:
    """Copies in two parts of a run are two stretches, each as long as what was looked at."""
    copies = np.zeros(4096, np.int64)
    copies[0:600] = copies[3000:3400] = 2
    run = window(4096, block_size=64, num_written_tokens=16, num_copies=copies)
    assert [(each.start, each.stop) for each in timeline(run)] == [(0, 768), (2816, 3584)]
    assert timeline(window(4096)) == timeline(window(0)) == []


def test_a_timeline_keeps_the_worst_of_a_stretch() -> None:
    """And its last look reaches to the end, however short the run."""
    copies = np.full(700, 2, np.int64)
    copies[400:] = 8
    (stretch,) = timeline(window(700, block_size=64, num_written_tokens=16, num_copies=copies))
    assert (stretch.start, stretch.stop) == (0, 700)
    assert stretch.finding.severity is Severity.CRITICAL
