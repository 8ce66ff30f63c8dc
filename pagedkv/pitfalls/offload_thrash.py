"""Offload thrash: pages go out and come back, later than the machine could bring them, and requests wait."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagedkv.checks import require_int, require_number
from pagedkv.pitfalls.finding import Advice, Finding, Pitfall, Severity
from pagedkv.stats import StatsWindow

__all__ = ["OffloadThrashThresholds", "detect_offload_thrash", "stalled_page_ins"]

_NS_PER_MS = 10**6
_ENOUGH_THREADS = 4
_ENOUGH_QUEUE = 256
_MOSTLY_LATE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadThrashThresholds:
    """When pages thrash.

    The first two are those of the log line "[Offload] Page-in stall". What page-ins cost is what requests
    wait for them in their turn: others run meanwhile, so that a little of it is no harm.

    Args:
        stall_ratio: times the time that a page-in takes by the measured bandwidths, what was asked for before
            it included, from which on it stalls.
        stall_slack_ms: what every page-in may take besides.
        stalled_ratio: share of page-ins that may stall. In healthy runs of all traces none does.
        wait_ratio: what requests may wait for pages, as a share of all time. In healthy runs it is below
            0.01, in one with too many agents for the pool 0.02.
        again_ratio: share of page-ins of pages that had been on the device a short time before, from which
            on waits alone tell.
        again_wait_ratio: what requests may wait then.
        critical_ratio: of `wait_ratio`, from which on it is critical.
        least_page_ins: steps in which page-ins ended, without which nothing is said of them.

    Raises:
        ConfigError: a number is out of range.
    """

    stall_ratio: float = 3.0
    stall_slack_ms: float = 2.0
    stalled_ratio: float = 0.1
    wait_ratio: float = 0.05
    again_ratio: float = 0.5
    again_wait_ratio: float = 0.4
    critical_ratio: float = 0.2
    least_page_ins: int = 10

    def __post_init__(self) -> None:
        require_number("stall_ratio", self.stall_ratio, 1, math.inf)
        require_number("stall_slack_ms", self.stall_slack_ms, 0, math.inf)
        for name in ("stalled_ratio", "again_ratio"):
            require_number(name, getattr(self, name), 0, 1)
        for name in ("wait_ratio", "again_wait_ratio", "critical_ratio"):
            require_number(name, getattr(self, name), 0, math.inf)
        require_int("least_page_ins", self.least_page_ins, 1)


def stalled_page_ins(window: StatsWindow, thresholds: OffloadThrashThresholds) -> npt.NDArray[np.bool_]:
    """Whether the longest page-in of each step in which some ended has stalled. Shape `[num_steps_with]`."""
    ended = window["page_in_ns"] > 0
    most_ns = thresholds.stall_ratio * window["page_in_expected_ns"] + thresholds.stall_slack_ms * _NS_PER_MS
    return (window["page_in_ns"] > most_ns)[ended]


def detect_offload_thrash(window: StatsWindow, thresholds: OffloadThrashThresholds) -> Finding | None:
    """A finding if page-ins stall and requests wait, or if they wait long for what was there just before."""
    if window.offload is None or not (num_page_ins := window.total("num_page_ins")):
        return None
    stalled = stalled_page_ins(window, thresholds)
    enough = len(stalled) >= thresholds.least_page_ins
    stalled_ratio = float(stalled.mean()) if enough else 0.0
    time_ns = max(1, window.total("duration_ns") + window.total("between_ns"))
    wait_ratio = window.total("awaited_ns") / time_ns
    again_ratio = window.total("num_again") / num_page_ins
    stalls = stalled_ratio > thresholds.stalled_ratio and wait_ratio > thresholds.wait_ratio
    tosses = again_ratio > thresholds.again_ratio and wait_ratio > thresholds.again_wait_ratio
    if not (stalls or tosses):
        return None
    return Finding(
        pitfall=Pitfall.OFFLOAD_THRASH,
        severity=Severity.CRITICAL if wait_ratio > thresholds.critical_ratio else Severity.WARNING,
        summary=f"requests wait for pages for {wait_ratio:.0%} of the time; {stalled_ratio:.0%} of page-ins "
        f"take more than {thresholds.stall_ratio:g} times what the bandwidths allow, and {again_ratio:.0%} "
        "of the pages had been on the device just before",
        evidence={
            "wait_ratio": round(wait_ratio, 4),
            "wait_ratio_threshold": thresholds.wait_ratio if stalls else thresholds.again_wait_ratio,
            "stalled_ratio": round(stalled_ratio, 4),
            "stalled_ratio_threshold": thresholds.stalled_ratio,
            "again_ratio": round(again_ratio, 4),
            "again_ratio_threshold": thresholds.again_ratio,
            **_latency(window),
            "num_page_ins": num_page_ins,
            "num_late": window.total("num_late"),
            "num_in_time": window.total("num_in_time"),
            "num_dropped": window.total("num_dropped"),
            "num_throttled": window.total("num_throttled"),
            "link_ratio": round(window.total("link_ns") / time_ns, 4),
            "file_ratio": round(window.total("file_ns") / time_ns, 4),
            "staging_wait_ratio": round(window.total("sync_ns") / time_ns, 4),
        },
        advice=_advice(window),
    )


def _latency(window: StatsWindow) -> dict[str, float]:
    """The page-in that a tenth of the longest ones exceeds, beside what bandwidths say of it."""
    ended = np.flatnonzero(window["page_in_ns"])
    if not len(ended):
        return {}
    order = ended[np.argsort(window["page_in_ns"][ended], kind="stable")]
    place = int(order[int(0.9 * (len(order) - 1))])
    return {
        "page_in_p90_ms": round(int(window["page_in_ns"][place]) / _NS_PER_MS, 1),
        "page_in_p90_by_bandwidth_ms": round(int(window["page_in_expected_ns"][place]) / _NS_PER_MS, 1),
    }


def _advice(window: StatsWindow) -> tuple[Advice, ...]:
    offload = window.offload
    found: list[Advice] = []
    if offload is None:
        return ()
    if window.total("file_ns"):
        now = "as much as the device's blocks" if offload.pinned_bytes is None else str(offload.pinned_bytes)
        found.append(
            Advice(
                f"pinned_bytes={_more(offload.pinned_bytes)} (now {now})",
                "pages come from host memory, and not through the file; no more than what comes back helps",
            )
        )
    num_late, num_in_time = window.total("num_late"), window.total("num_in_time")
    if not offload.prefetch_blocks:
        found.append(
            Advice("prefetch_blocks=4096 (now 0)", f"{num_late} pages come before they are waited for")
        )
    if window.total("num_throttled") and offload.queue_depth < _ENOUGH_QUEUE:
        found.append(
            Advice(
                f"queue_depth={_ENOUGH_QUEUE} (now {offload.queue_depth})",
                "reads of the file go on while a long step runs",
            )
        )
    if window.total("file_ns") and offload.io_threads < _ENOUGH_THREADS:
        found.append(
            Advice(
                f"io_threads={_ENOUGH_THREADS} (now {offload.io_threads})",
                "the disk reads while checksums are computed; more than that brought nothing",
            )
        )
    if window.total("num_dropped") and not offload.nvme_bytes:
        found.append(Advice("nvme_path, nvme_bytes (now none)", "what host memory loses stays in a file"))
    if num_late > _MOSTLY_LATE * (num_late + num_in_time):
        found.append(
            Advice("more num_blocks, or a smaller max_running", "there is room to bring pages ahead of time")
        )
    return tuple(found)


def _more(pinned_bytes: int | None) -> str:
    return "more" if pinned_bytes is None else str(4 * pinned_bytes)
