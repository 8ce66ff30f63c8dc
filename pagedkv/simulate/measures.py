"""What is measured while a simulation runs: events folded into integers."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pagedkv import events as ev
from pagedkv.block_ids import Int64s
from pagedkv.block_manager import BlockManager
from pagedkv.engine.stats import nearest_rank
from pagedkv.offload.stats import OffloadFold
from pagedkv.scheduler import Chunk, RequestState, ScheduledStep, Scheduler
from pagedkv.simulate.result import Series, SimulationResult, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Measures"]

_PER_MILLION = 10**6


class Measures:
    """A sink for the events of a scheduler and its cache, and a ledger of steps and requests.

    Args:
        cache: the cache.
        sample_interval_ns: time between looks at the state.
    """

    def __init__(self, cache: BlockManager, sample_interval_ns: int) -> None:
        self._cache = cache
        self._interval_ns = sample_interval_ns
        self._next_sample_ns = 0
        self._series = Series()
        self._timelines: list[Timeline] = []
        self._batch_sizes: list[int] = []
        self._gaps: list[Int64s] = []
        self._references = _References()
        self._offload = None if cache.tiers is None else OffloadFold()
        self._furthest: dict[int, int] = {}
        self._num_generated = self._num_prefill = self._num_recomputed = 0
        self._busy_ns = self._num_copied = self._max_waiting = 0
        self._peak_blocks = self._block_steps = self._unshared_block_steps = 0
        self._folds: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.StepCommitted: self._committed,
            ev.BlocksAllocated: self._references.allocated,
            ev.BlocksShared: self._references.shared,
            ev.BlocksCopied: self._copied,
            ev.SequenceReleased: self._references.released,
        }

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        if self._offload is not None:
            self._offload(event)
        if (fold := self._folds.get(type(event))) is not None:
            fold(event)

    def scheduled(self, step: ScheduledStep, num_waiting: int) -> None:
        """A step has its blocks."""
        pool = self._cache.pool
        in_use = pool.num_blocks - pool.num_free
        self._batch_sizes.append(step.batch_size)
        self._block_steps += in_use
        self._unshared_block_steps += self._references.total
        self._peak_blocks = max(self._peak_blocks, in_use)
        self._max_waiting = max(self._max_waiting, num_waiting)
        for chunk in step.chunks:
            self._num_prefill += chunk.num_tokens - _ends_with_output(chunk)
            self._num_recomputed += self._again(chunk)

    def finished(self, request: RequestState, num_generated: int) -> None:
        """A request has ended, with so many tokens."""
        self._num_generated += num_generated
        self._timelines.append(_timeline(request, num_generated))

    def look(self, scheduler: Scheduler, now_ns: int) -> None:
        """Write the state down, if it is time to."""
        if now_ns < self._next_sample_ns:
            return
        self._next_sample_ns = (now_ns // self._interval_ns + 1) * self._interval_ns
        pool, series = self._cache.pool, self._series
        series.time_ns.append(now_ns)
        series.batch_size.append(self._batch_sizes[-1] if self._batch_sizes else 0)
        series.running.append(scheduler.num_running)
        series.waiting.append(scheduler.num_waiting)
        series.blocks.append(pool.num_blocks - pool.num_free)
        series.fragmentation_ppm.append(int(self._cache.internal_fragmentation() * _PER_MILLION))

    def result(self, *, requests: int, rejected: int) -> SimulationResult:
        """Everything."""
        ran = sorted(self._timelines, key=lambda each: each.request)
        batch = _percentiles("batch_size", "", self._batch_sizes, (50, 90, 99))
        ttft = _percentiles("ttft", "_ns", [t.first_token_ns - t.arrival_ns for t in ran], (50, 90, 99))
        ages = _percentiles("end_to_end", "_ns", [t.finished_ns - t.arrival_ns for t in ran], (50, 99))
        waits = _percentiles(
            "queue_wait", "_ns", [t.first_scheduled_ns - t.arrival_ns for t in ran], (50, 99)
        )
        gaps = np.concatenate(self._gaps) if self._gaps else np.empty(0, np.int64)
        wasted = self._series.fragmentation_ppm
        return SimulationResult(
            requests=requests,
            rejected=rejected,
            steps=len(self._batch_sizes),
            makespan_ns=max((t.finished_ns for t in ran), default=0),
            busy_ns=self._busy_ns,
            prompt_tokens=sum(t.prompt_tokens for t in ran),
            hit_tokens=sum(t.cached_tokens for t in ran),
            prefill_tokens=self._num_prefill,
            recomputed_tokens=self._num_recomputed,
            generated_tokens=self._num_generated,
            preemptions=sum(t.preemptions for t in ran),
            lost_tokens=sum(t.lost_tokens for t in ran),
            cow_copies=self._num_copied,
            peak_blocks=self._peak_blocks,
            batch_size_max=max(self._batch_sizes, default=0),
            batch_size_sum=sum(self._batch_sizes),
            max_waiting=self._max_waiting,
            fragmentation_mean_ppm=sum(wasted) // len(wasted) if wasted else 0,
            fragmentation_max_ppm=max(wasted, default=0),
            block_steps=self._block_steps,
            unshared_block_steps=self._unshared_block_steps,
            series=self._series,
            timelines=tuple(ran),
            offload=None if self._offload is None else self._offload.as_stats(),
            **batch, **ttft, **ages, **waits,
            **_percentiles("inter_token", "_ns", gaps, (50, 90, 99)),
        )  # fmt: skip

    def _committed(self, event: ev.StepCommitted) -> None:
        self._busy_ns += event.duration_ns
        if len(event.gaps_ns):
            self._gaps.append(event.gaps_ns)

    def _copied(self, event: ev.BlocksCopied) -> None:
        self._num_copied += event.num_blocks
        self._references.copied(event)

    def _again(self, chunk: Chunk) -> int:
        """Tokens of a chunk that its request had computed before."""
        sequence = chunk.sequence
        computed = self._furthest.get(sequence.seq_id, 0)
        if sequence.num_output_tokens:  # all but the one that was sampled last
            computed = sequence.num_tokens - 1
        elif chunk.samples:
            self._furthest.pop(sequence.seq_id, None)
        else:
            self._furthest[sequence.seq_id] = max(computed, chunk.stop)
        return max(0, min(chunk.stop, computed) - chunk.start)


class _References:
    """References that live sequences hold to blocks: what they would use if none was shared."""

    def __init__(self) -> None:
        self.total = 0

    def allocated(self, event: ev.BlocksAllocated) -> None:
        """Each new block has one."""
        self.total += event.num_blocks

    def shared(self, event: ev.BlocksShared) -> None:
        """Each of these gained one."""
        self.total += event.num_blocks

    def copied(self, event: ev.BlocksCopied) -> None:
        """A write let go of the original; a fork's eager copy did not take it first."""
        self.total -= 0 if event.at_fork else event.num_blocks

    def released(self, event: ev.SequenceReleased) -> None:
        """A sequence let go of all of its blocks."""
        self.total -= event.num_blocks


def _ends_with_output(chunk: Chunk) -> bool:
    """Whether a chunk's last token is the one that was sampled last, which is computed for the first time."""
    return chunk.sequence.num_output_tokens > 0 and chunk.stop == chunk.sequence.num_tokens


def _percentiles(
    name: str, unit: str, values: list[int] | Int64s, percents: tuple[int, ...]
) -> dict[str, Any]:
    found = nearest_rank(np.asarray(values, np.int64), percents)
    return {f"{name}_p{percent}{unit}": value for percent, value in zip(percents, found, strict=True)}


def _timeline(request: RequestState, num_generated: int) -> Timeline:
    return Timeline(
        request=int(request.request_id),
        arrival_ns=request.arrival_ns,
        first_scheduled_ns=request.first_scheduled_ns or 0,
        first_token_ns=request.first_token_ns or 0,
        finished_ns=request.finished_ns or 0,
        prompt_tokens=request.request.prompt.num_tokens,
        output_tokens=num_generated,
        cached_tokens=request.num_cached_tokens,
        preemptions=request.num_preemptions,
        lost_tokens=request.num_lost_tokens,
    )
