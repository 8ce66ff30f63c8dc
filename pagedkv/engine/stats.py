"""What an engine has measured, folded from the events of everything below it."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagedkv import events as ev
from pagedkv.block_ids import Int64s
from pagedkv.engine.history import History
from pagedkv.offload.stats import OffloadFold, OffloadStats
from pagedkv.scheduler import Scheduler
from pagedkv.stats import Counters

__all__ = ["EngineStats", "StatsFold", "nearest_rank"]

_NS_PER_S = 1e9
_PERCENT = 100
_WINDOW = 2**16
_KEPT = ("lookup_blocks", "hit_blocks", "evictions")
_STEPS_BETWEEN_LOOKS = 16  # at fragmentation, which costs O(sequences)


def nearest_rank(values: Int64s, percents: tuple[int, ...]) -> list[int]:
    """Exact percentiles: the smallest value that at least so many percent do not exceed; 0 of none."""
    if not len(values):
        return [0] * len(percents)
    places = [max(0, -(-percent * len(values) // _PERCENT) - 1) for percent in percents]
    parted = np.partition(values, sorted(set(places)))
    return [int(parted[place]) for place in places]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine has done since it was made. Times are those of its clock.

    Percentiles are exact, over the last 65 536 values, by nearest rank: the smallest value that at least so
    many percent of them do not exceed. NaN while there are none.

    Attributes:
        num_requests: that were added.
        num_finished: that ended by themselves.
        num_aborted: that were aborted.
        num_waiting: that wait now.
        num_running: that run now.
        num_steps: steps that were committed.
        num_failed_steps: steps whose executor raised.
        busy_s: time between scheduling and committing, over all committed steps.
        step_p50_s: of the time that a step took.
        step_p99_s: likewise.
        mean_batch_size: sequences that took part in a step.
        max_batch_size: likewise.
        num_prefill_tokens: tokens that steps computed in prompts, and again after a preemption, with the one
            that had been sampled last.
        num_generated_tokens: tokens that were sampled.
        tokens_per_s: sampled tokens / `busy_s`; 0.0 without a step.
        ttft_p50_s: from a request's arrival to its first token.
        ttft_p99_s: likewise.
        inter_token_p50_s: from a token of a sequence to the next one.
        inter_token_p99_s: likewise.
        num_hit_tokens: tokens that the prefix cache spared.
        num_preemptions: how often a request lost its blocks, also by a failed step.
        num_lost_tokens: computed tokens that were lost with them.
        num_blocks: blocks of the pool.
        num_free_blocks: those that nobody has now.
        num_cached_blocks: those in the prefix cache now, in use or idle.
        max_blocks_in_use: most that somebody had at once.
        mean_fragmentation_ratio: slots of blocks in use that hold no token, over all their slots; mean of
            looks at every 16th step, 0.0 before the first.
        num_first_tokens: requests whose first token came.
        ttft_sum_s: of their times to it.
        num_inter_tokens: tokens that came behind another one.
        inter_token_sum_s: of the times between these.
        counters: all counters of `pagedkv.stats.Counters`.
        offload: traffic with the tiers below the device; None where there are none.
    """

    num_requests: int
    num_finished: int
    num_aborted: int
    num_waiting: int
    num_running: int
    num_steps: int
    num_failed_steps: int
    busy_s: float
    step_p50_s: float
    step_p99_s: float
    mean_batch_size: float
    max_batch_size: int
    num_prefill_tokens: int
    num_generated_tokens: int
    tokens_per_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    inter_token_p50_s: float
    inter_token_p99_s: float
    num_hit_tokens: int
    num_preemptions: int
    num_lost_tokens: int
    num_blocks: int
    num_free_blocks: int
    num_cached_blocks: int
    max_blocks_in_use: int
    mean_fragmentation_ratio: float
    counters: Mapping[str, int]
    offload: OffloadStats | None = None
    num_first_tokens: int = 0
    ttft_sum_s: float = 0.0
    num_inter_tokens: int = 0
    inter_token_sum_s: float = 0.0


class _Window:
    """The last so many values, and the sum of all.

    Attributes:
        num_seen: values that there were.
        total: their sum.
    """

    def __init__(self) -> None:
        self._values = np.zeros(_WINDOW, np.int64)
        self.num_seen = 0
        self.total = 0

    def copied(self) -> "_Window":
        """The same values, in an array of their own."""
        other = copy.copy(self)
        other._part()  # noqa: SLF001 - a copy of its own
        return other

    def _part(self) -> None:
        """Have nothing in common any more with what this is a copy of."""
        self._values = self._values[: self.num_seen].copy()

    def extend(self, values: Int64s) -> None:
        """Take values, the oldest ones giving way."""
        kept = values[-_WINDOW:]
        place = self.num_seen % _WINDOW
        first = min(len(kept), _WINDOW - place)
        self._values[place : place + first] = kept[:first]
        self._values[: len(kept) - first] = kept[first:]
        self.num_seen += len(kept)
        self.total += int(kept.sum())

    def append(self, value: int) -> None:
        """Take one value."""
        self._values[self.num_seen % _WINDOW] = value
        self.num_seen += 1
        self.total += value

    def percentiles_s(self) -> tuple[float, float]:
        """The 50th and the 99th, in seconds."""
        values = self._values[: min(self.num_seen, _WINDOW)]
        if not len(values):
            return float("nan"), float("nan")
        p50, p99 = nearest_rank(values, (50, 99))
        return p50 / _NS_PER_S, p99 / _NS_PER_S


class StatsFold:
    """A sink that folds events of cache and scheduler into `EngineStats`.

    Args:
        fragmentation: asks for the share of wasted slots now.
        with_offload: whether there are tiers below the device.

    Attributes:
        history: what the last steps were.
    """

    def __init__(self, fragmentation: Callable[[], float], *, with_offload: bool = False) -> None:
        self._fragmentation = fragmentation
        self._counters = Counters()
        self._offload = OffloadFold() if with_offload else None
        self._totals: Counter[str] = Counter()
        self._wasted_ratios = 0.0
        self._steps, self._first_tokens, self._gaps = _Window(), _Window(), _Window()
        self.history = History()
        self._folds: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.RequestQueued: self._queued,
            ev.RequestPreempted: self._preempted,
            ev.RequestFinished: self._finished,
            ev.StepScheduled: self._scheduled,
            ev.StepCommitted: self._committed,
        }

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._counters(event)
        if self._offload is not None:
            self._offload(event)
        if (fold := self._folds.get(type(event))) is not None:
            fold(event)

    def step_failed(self) -> None:
        """Count a step whose executor raised; no event tells of it."""
        self._totals["failed_steps"] += 1

    def as_stats(self, scheduler: Scheduler) -> EngineStats:
        """Everything until now, with what the scheduler holds at the moment."""
        return self.copied(scheduler)()

    def copied(self, scheduler: Scheduler) -> Callable[[], EngineStats]:
        """Copy what there is now; returns what makes stats of it, on any thread."""
        counters, totals, pool = self._counters.as_dict(), self._totals.copy(), scheduler.cache.pool
        now = {
            "num_waiting": scheduler.num_waiting,
            "num_running": scheduler.num_running,
            "num_blocks": pool.num_blocks,
            "num_free_blocks": pool.num_free,
            "num_cached_blocks": scheduler.cache.num_cached_blocks,
        }
        windows = self._steps.copied(), self._first_tokens.copied(), self._gaps.copied()
        offload, wasted = None if self._offload is None else self._offload.as_stats(), self._wasted_ratios
        return lambda: _stats(totals, counters, windows, now, offload, wasted)

    def _queued(self, _event: ev.RequestQueued) -> None:
        self._totals["requests"] += 1

    def _preempted(self, e: ev.RequestPreempted) -> None:
        self._totals["preemptions"] += 1
        self._totals["lost_tokens"] += e.num_lost_tokens

    def _finished(self, e: ev.RequestFinished) -> None:
        self._totals["aborted" if e.reason == "abort" else "finished"] += 1

    def _scheduled(self, e: ev.StepScheduled) -> None:
        if not e.batch_size:
            return
        self.history.scheduled(e)
        totals = self._totals
        if totals["batches"] % _STEPS_BETWEEN_LOOKS == 0:
            self._wasted_ratios += self._fragmentation()
            totals["looks"] += 1
        totals["batches"] += 1
        totals["batch_sizes"] += e.batch_size
        totals["max_batch_size"] = max(totals["max_batch_size"], e.batch_size)
        totals["prefill_tokens"] += e.num_prefill_tokens

    def _committed(self, e: ev.StepCommitted) -> None:
        self._totals["steps"] += 1
        self._totals["busy_ns"] += e.duration_ns
        self._totals["sampled"] += e.num_sampled
        self._steps.append(e.duration_ns)
        self._first_tokens.extend(e.first_token_ns)
        self._gaps.extend(e.gaps_ns)
        self.history.committed(e)
        if e.now_ns >= self.history.next_mark_ns:
            self.history.mark(e.now_ns, self._counts())

    def _counts(self) -> dict[str, int]:
        """What the history keeps of each second."""
        totals, counters = self._totals, self._counters.as_dict()
        counts = {f"num_{name}": counters.get(name, 0) for name in _KEPT}
        counts |= {"num_generated_tokens": totals["sampled"], "num_prefill_tokens": totals["prefill_tokens"]}
        counts |= {"num_preemptions": totals["preemptions"], "num_steps": totals["steps"]}
        moved = {} if self._offload is None else self._offload.as_stats().num_bytes
        return (
            counts
            | {"sum_batch_sizes": totals["batch_sizes"]}
            | {f"{route}_bytes": size for route, size in moved.items()}
        )


def _stats(
    totals: Counter[str],
    counters: Mapping[str, int],
    windows: tuple[_Window, _Window, _Window],
    now: Mapping[str, int],
    offload: OffloadStats | None,
    wasted: float,
) -> EngineStats:
    steps, first_tokens, gaps = windows
    step_p50_s, step_p99_s = steps.percentiles_s()
    ttft_p50_s, ttft_p99_s = first_tokens.percentiles_s()
    inter_token_p50_s, inter_token_p99_s = gaps.percentiles_s()
    busy_s = totals["busy_ns"] / _NS_PER_S
    return EngineStats(
        num_requests=totals["requests"],
        num_finished=totals["finished"],
        num_aborted=totals["aborted"],
        num_steps=totals["steps"],
        num_failed_steps=totals["failed_steps"],
        busy_s=busy_s,
        step_p50_s=step_p50_s,
        step_p99_s=step_p99_s,
        mean_batch_size=totals["batch_sizes"] / max(1, totals["batches"]),
        max_batch_size=totals["max_batch_size"],
        num_prefill_tokens=totals["prefill_tokens"],
        num_generated_tokens=totals["sampled"],
        tokens_per_s=totals["sampled"] / busy_s if busy_s else 0.0,
        ttft_p50_s=ttft_p50_s,
        ttft_p99_s=ttft_p99_s,
        inter_token_p50_s=inter_token_p50_s,
        inter_token_p99_s=inter_token_p99_s,
        num_hit_tokens=counters.get("tokens_reused", 0),
        num_preemptions=totals["preemptions"],
        num_lost_tokens=totals["lost_tokens"],
        max_blocks_in_use=counters.get("blocks_peak", 0),
        mean_fragmentation_ratio=wasted / max(1, totals["looks"]),
        counters=counters,
        offload=offload,
        num_first_tokens=first_tokens.num_seen,
        ttft_sum_s=first_tokens.total / _NS_PER_S,
        num_inter_tokens=gaps.num_seen,
        inter_token_sum_s=gaps.total / _NS_PER_S,
        **now,
    )
