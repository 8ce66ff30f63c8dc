"""Thrash: what is one, what is not, and what is said of it."""

from typing import Any

import numpy as np
import pytest

from pagedkv import OffloadConfig
from pagedkv.errors import ConfigError
from pagedkv.pitfalls import Finding, Pitfall, Severity
from pagedkv.pitfalls.offload_thrash import OffloadThrashThresholds, detect_offload_thrash
from pagedkv.stats import StatsWindow
from tests.pitfalls.windows import MS, decode_steps

TIERS = OffloadConfig(prefetch_blocks=0, io_threads=1, nvme_path="somewhere", nvme_bytes=2**30)


def paging(offload: OffloadConfig | None = TIERS, **columns: Any) -> StatsWindow:
    """Every tenth step a page-in ends, which took 100 ms where bandwidths say 20, and 4 ms were waited."""
    often = np.arange(400) % 10 == 0
    usual: dict[str, Any] = {
        "num_page_ins": np.where(often, 50, 0),
        "num_late": np.where(often, 50, 0),
        "page_in_ns": np.where(often, 100 * MS, 0),
        "page_in_expected_ns": np.where(often, 20 * MS, 0),
        "awaited_ns": np.where(often, 10 * MS, 0),
        "file_ns": np.where(often, 15 * MS, 0),
        "num_throttled": np.where(often, 1, 0),
    }
    return decode_steps(offload=offload, **(usual | columns))


def found(window: StatsWindow, **thresholds: float) -> Finding | None:
    """What is found."""
    return detect_offload_thrash(window, OffloadThrashThresholds(**thresholds))


def test_stalls_that_requests_wait_for_are_thrash() -> None:
    """Page-ins at a fifth of the bandwidth, and requests that wait for a tenth of the time."""
    finding = found(paging())
    assert finding is not None
    assert (finding.pitfall, finding.severity) == (Pitfall.OFFLOAD_THRASH, Severity.WARNING)
    numbers = finding.evidence
    assert (numbers["wait_ratio"], numbers["stalled_ratio"]) == (0.1, 1.0)
    assert (numbers["page_in_p90_ms"], numbers["page_in_p90_by_bandwidth_ms"]) == (100.0, 20.0)
    assert (numbers["num_late"], numbers["num_in_time"]) == (2_000, 0)
    changes = " ".join(advice.change for advice in finding.advice)
    for setting in ("pinned_bytes", "prefetch_blocks=4096", "queue_depth=256", "io_threads=4", "num_blocks"):
        assert setting in changes


def test_long_waits_are_critical() -> None:
    """A third of the time is most of the latency."""
    finding = found(paging(awaited_ns=4 * MS))
    assert finding is not None
    assert finding.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    "columns",
    [
        {"page_in_ns": 55 * MS, "page_in_expected_ns": 20 * MS},  # as quick as the machine allows
        {"page_in_ns": 4 * MS, "page_in_expected_ns": MS},  # threads and disks do not answer at once
        {"awaited_ns": 0, "num_late": 0, "num_in_time": 5},  # slow, and in time all the same
        {"num_again": 45, "num_page_ins": 50, "page_in_ns": 0},  # LRU on the edge: no cost, no harm
        {"num_page_ins": 0, "page_in_ns": 0},
    ],
)
def test_pages_that_nobody_waits_for_are_healthy(columns: dict[str, Any]) -> None:
    """Latency is measured against bandwidth, and counts as far as requests wait."""
    assert found(paging(**columns)) is None


def test_pages_tossed_at_full_bandwidth_are_found_by_waits_alone() -> None:
    """No page-in stalls, but requests wait half of the time for what was there just before."""
    tossed = {"page_in_ns": 0, "num_again": 45, "num_page_ins": 50, "awaited_ns": 5 * MS}
    assert found(paging(**tossed)) is not None
    assert found(paging(**(tossed | {"num_again": 5}))) is None
    assert found(paging(**tossed), again_wait_ratio=0.6) is None


def test_few_page_ins_and_no_tiers_say_nothing() -> None:
    """Chance is no thrash."""
    once = np.arange(400) == 7
    columns = {name: np.where(once, paging()[name].max(), 0) for name in ("page_in_ns", "num_page_ins")}
    assert found(paging(**columns)) is None
    assert found(paging(offload=None)) is None


def test_advice_fits_what_happened() -> None:
    """Pages that were dropped want a file; what is set already is not advised."""
    finding = found(paging(offload=OffloadConfig(), file_ns=0, num_throttled=0, num_dropped=9))
    assert finding is not None
    changes = [advice.change for advice in finding.advice]
    assert changes == ["nvme_path, nvme_bytes (now none)", "more num_blocks, or a smaller max_running"]


@pytest.mark.parametrize(
    "wrong",
    [{"stall_ratio": 0.5}, {"stalled_ratio": 2}, {"wait_ratio": -1}, {"least_page_ins": 0}],
)
def test_thresholds_are_checked(wrong: dict[str, Any]) -> None:
    """A number out of range is refused."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OffloadThrashThresholds(**wrong)
