"""Traces through the real block manager: what a cache would do under real traffic.

`replay_sequential` runs requests one after the other against the prefix cache, `replay_fork` measures what
sharing a prompt among samples saves, `replay_fcfs` lets requests wait for blocks, first come first served.
Every number is counted by the manager, the pool or the events that they emit. Results are integers, and do
not depend on the machine.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from heapq import heappop, heappush

import numpy as np

from pagedkv.block_manager import BlockManager
from pagedkv.block_pool import BlockPool
from pagedkv.config import CacheConfig
from pagedkv.errors import ConfigError, OutOfBlocks, TraceFormatError
from pagedkv.stats import Counters
from pagedkv.traces import Trace, TraceRequest

__all__ = [
    "FcfsResult",
    "ForkResult",
    "Progress",
    "ReplayResult",
    "SequentialResult",
    "replay_fcfs",
    "replay_fork",
    "replay_sequential",
]

Progress = Callable[[int, int], object]
"""Called now and then with (requests done, requests in all)."""

DEFAULT_BLOCK_SIZE = 16
_PROGRESS_STEP = 64
_MAX_BLOCKS = 2**31 - 1
_NO_IDS = array("q")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What all results have in common."""

    def as_dict(self) -> dict[str, int | float]:
        """The numbers by name, in the order in which they are declared, then the ratios."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | self.ratios()

    def ratios(self) -> dict[str, float]:
        """Ratios of the numbers, 0.0 where there is nothing to divide by."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialResult(ReplayResult):
    """Result of `replay_sequential`.

    Attributes:
        requests: all requests of the trace.
        rejected: those that need more blocks than the pool has; they changed nothing.
        prompt_blocks: prompt block ids of all requests.
        lookup_blocks: ids that were eligible for reuse; one prompt token is always computed.
        hit_blocks: blocks reused.
        full_prefix_hits: requests that reused every eligible block, and at least one.
        evictions: cached blocks that were given up for new content.
        blocks_allocated: blocks taken from the free queue.
        cached_end: blocks in the prefix cache at the end.
    """

    requests: int
    rejected: int
    prompt_blocks: int
    lookup_blocks: int
    hit_blocks: int
    full_prefix_hits: int
    evictions: int
    blocks_allocated: int
    cached_end: int

    def ratios(self) -> dict[str, float]:
        """Reused share of all prompt blocks."""
        return {"hit_ratio": _ratio(self.hit_blocks, self.prompt_blocks)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkResult(ReplayResult):
    """Result of `replay_fork`; sums over the requests that were neither rejected nor without a prompt.

    Attributes:
        blocks_without_sharing: blocks that the samples hold at their ends, each with its own prompt.
        blocks_with_sharing: the same when they share the prompt's blocks.
        cow_copies: blocks copied because a sample wrote to one that others still read.
        requests: all requests of the trace.
        rejected: requests that need more blocks than the pool has, even when they share.
    """

    blocks_without_sharing: int
    blocks_with_sharing: int
    cow_copies: int
    requests: int
    rejected: int

    def as_dict(self) -> dict[str, int | float]:
        """As `ReplayResult.as_dict`, with the saving behind what it is made of."""
        numbers = super(ForkResult, self).as_dict()
        behind = {name: numbers.pop(name) for name in ("requests", "rejected")}
        return numbers | behind

    def ratios(self) -> dict[str, float]:
        """Share of the blocks that sharing saves."""
        saved = self.blocks_without_sharing - self.blocks_with_sharing
        return {"saving": _ratio(saved, self.blocks_without_sharing)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FcfsResult(ReplayResult):
    """Result of `replay_fcfs`. Units: milliseconds of the trace's clock, blocks.

    Attributes:
        max_queue: most requests that waited at once, after admissions.
        total_wait_ms: sum of the times from arrival to admission.
        makespan_ms: time of the last departure; 0 if there was none.
        peak_requests: most requests that ran at once.
        peak_blocks: most blocks held at once.
        rejected: requests that need more blocks than the pool has.
        requests: all requests of the trace.
    """

    max_queue: int
    total_wait_ms: int
    makespan_ms: int
    peak_requests: int
    peak_blocks: int
    rejected: int
    requests: int


# ---- one after the other, with a prefix cache


def replay_sequential(
    trace: Trace, num_blocks: int | None = None, *, progress: Progress | None = None
) -> SequentialResult:
    """Run the requests in file order, each to its end, through a prefix cache of `num_blocks` blocks.

    A request takes blocks for prompt and output at once, reuses the longest run of leading blocks whose ids
    are registered, registers its own full prompt blocks, and gives all blocks back, last one first.

    Args:
        trace: a trace with block ids; their block size is the cache's.
        num_blocks: size of the pool; None for as many as are ever needed.
        progress: told how far it is.

    Raises:
        ConfigError: the trace has no block ids, or `num_blocks` is not a size that a pool can have.
    """
    block_size = _id_block_size(trace)
    size = _pool_size(num_blocks, sum(r.num_blocks(block_size) for r in trace.requests))
    cache = BlockManager(CacheConfig(num_blocks=size, block_size=block_size, prefix_keys="ids"))
    counters = Counters()
    cache.events.attach(counters)
    rejected = full_prefix_hits = 0
    for request in _tracked(trace.requests, progress):
        try:
            num_hits = _run_alone(cache, request) // block_size
        except OutOfBlocks:
            rejected += 1
        else:
            full_prefix_hits += 0 < num_hits == (request.num_prompt_tokens - 1) // block_size
    counted = counters.as_dict()
    return SequentialResult(
        requests=len(trace.requests),
        rejected=rejected,
        prompt_blocks=sum(len(r.block_ids or ()) for r in trace.requests),
        lookup_blocks=counted.get("lookup_blocks", 0),
        hit_blocks=counted.get("hit_blocks", 0),
        full_prefix_hits=full_prefix_hits,
        evictions=counted.get("evictions", 0),
        blocks_allocated=counted.get("blocks_allocated", 0),
        cached_end=cache.num_cached_blocks,
    )


def _run_alone(cache: BlockManager, request: TraceRequest) -> int:
    """Admit and release; returns the prompt tokens that were reused."""
    placement = cache.admit_keys(
        request.index,
        _NO_IDS if request.block_ids is None else request.block_ids,
        num_prompt_tokens=request.num_prompt_tokens,
        num_tokens=request.num_prompt_tokens + request.num_output_tokens,
    )
    cache.release(request.index)
    return placement.num_cached_tokens


def _id_block_size(trace: Trace) -> int:
    if trace.block_size is None:
        raise ConfigError(
            f"{trace.name} ({trace.format}) has no block ids, and a hit rate is not invented: choose "
            "--prefix-model none (no prompts share anything) or shared:N (all share their first N tokens)"
        )
    return trace.block_size


# ---- several samples of each prompt


def replay_fork(
    trace: Trace,
    num_samples: int,
    *,
    num_blocks: int | None = None,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> ForkResult:
    """Sample every request that has a prompt `num_samples` times to the same length, shared and not.

    Args:
        trace: lengths are all that matters.
        num_samples: samples of each prompt.
        num_blocks: size of the pool for the sharing samples; None for as many as are ever needed.
        block_size: tokens in a block; by default that of the trace's ids, or 16.
        progress: told how far it is.

    Raises:
        ConfigError: `num_samples` is no positive int, or a size is not one that a pool can have.
    """
    if type(num_samples) is not int or num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples!r}; it must be an int of at least 1")
    prompts = [r for r in trace.requests if r.num_prompt_tokens]
    block_size = block_size or trace.block_size or DEFAULT_BLOCK_SIZE
    most = num_samples * max((r.num_blocks(block_size) for r in prompts), default=0)
    samples = _Samples(num_samples, block_size, _pool_size(num_blocks, most), _pool_size(None, most), prompts)
    for request in _tracked(prompts, progress):
        samples.run(request)
    return ForkResult(
        blocks_without_sharing=samples.without,
        blocks_with_sharing=samples.shared,
        cow_copies=samples.cow_copies,
        requests=len(trace.requests),
        rejected=samples.rejected,
    )
