"""How fast counts of an engine move, from one look at it to the next."""

from collections import deque
from collections.abc import Mapping
from typing import Any

__all__ = ["Rates"]

_KEPT = 120
_NS_PER_S = 1e9
_OF_STATS = ("num_generated_tokens", "num_prefill_tokens", "num_preemptions", "num_steps")
_OF_COUNTERS = {
    "num_lookup_blocks": "lookup_blocks",
    "num_hit_blocks": "hit_blocks",
    "num_evictions": "evictions",
}
_ROUTES = ("page_out", "page_in", "spill", "fetch")

_Counts = dict[str, float]


class Rates:
    """Differences of what snapshots count, over the engine's own time.

    Attributes:
        now: of each count, its change in a second; empty before there are two looks.
        hit_ratio: of the blocks looked up meanwhile; None if there were none.
        batch: sequences in a step, meanwhile; None if there was no step.
    """

    def __init__(self) -> None:
        self._last: _Counts | None = None
        self._series: dict[str, deque[float]] = {}
        self.now: Mapping[str, float] = {}
        self.hit_ratio: float | None = None
        self.batch: float | None = None

    def look(self, found: Mapping[str, Any]) -> None:
        """Take another snapshot; the first one may have a history."""
        counts = _counts(found)
        if self._last is not None and _is_another(self._last, counts):
            self._last, self.now, self.hit_ratio, self.batch = None, {}, None, None
            self._series.clear()
        if self._last is None:
            marks = found.get("history", [])
            for mark in marks:
                self._add({name: float(value) for name, value in mark.items()})
        self._add(counts)

    def series(self, name: str) -> list[float]:
        """What `now[name]` was, oldest first; also of "hit_ratio"."""
        return list(self._series.get(name, ()))

    def _add(self, counts: _Counts) -> None:
        last, self._last = self._last, counts
        if last is None:
            return
        seconds = (counts["time_ns"] - last["time_ns"]) / _NS_PER_S
        if seconds <= 0:
            self._last = last if seconds else counts
            return
        changes = {name: value - last[name] for name, value in counts.items() if name in last}
        self.now = {name: change / seconds for name, change in changes.items()}
        looked = changes["num_lookup_blocks"]
        self.hit_ratio = changes["num_hit_blocks"] / looked if looked else None
        steps = changes.get("num_steps", 0)
        self.batch = changes["sum_batch_sizes"] / steps if steps else None
        for name, rate in (*self.now.items(), ("hit_ratio", self.hit_ratio or 0.0)):
            self._series.setdefault(name, deque(maxlen=_KEPT)).append(rate)


def _is_another(last: _Counts, counts: _Counts) -> bool:
    """Whether the counts are of an engine that was made since."""
    return any(counts[name] < last[name] for name in ("time_ns", "num_steps"))


def _counts(found: Mapping[str, Any]) -> _Counts:
    stats = found["stats"]
    counters, offload = stats["counters"], stats["offload"]
    counts = {"time_ns": float(found["time_ns"]), **{name: float(stats[name]) for name in _OF_STATS}}
    counts |= {name: float(counters.get(counter, 0)) for name, counter in _OF_COUNTERS.items()}
    counts["sum_batch_sizes"] = stats["mean_batch_size"] * stats["num_steps"]
    if offload is not None:
        counts |= {f"{route}_bytes": float(offload["num_bytes"][route]) for route in _ROUTES}
    return counts
