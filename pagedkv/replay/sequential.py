"""One request after the other, with a prefix cache: how much would be reused, and what is evicted."""

from array import array
from dataclasses import dataclass

from pagedkv.block_manager import BlockManager
from pagedkv.config import CacheConfig
from pagedkv.errors import ConfigError, OutOfBlocks
from pagedkv.events import BlocksAllocated, Event, PrefixLookup
from pagedkv.replay.result import Progress, ReplayResult, pool_size, ratio, tracked
from pagedkv.traces import Trace, TraceRequest

__all__ = ["SequentialResult", "replay_sequential"]

_NO_IDS = array("q")


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
        """`hit_ratio`: the share of all prompt blocks that was reused."""
        return {"hit_ratio": ratio(self.hit_blocks, self.prompt_blocks)}


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
    cache = _cache(trace, num_blocks)
    tally = _Tally()
    cache.events.attach(tally)
    rejected = full_prefix_hits = 0
    for request in tracked(trace.requests, progress):
        try:
            num_hits = _run(cache, request) // cache.config.block_size
        except OutOfBlocks:
            rejected += 1
        else:
            full_prefix_hits += 0 < num_hits == (request.num_prompt_tokens - 1) // cache.config.block_size
    return SequentialResult(
        requests=len(trace.requests),
        rejected=rejected,
        prompt_blocks=sum(len(r.block_ids or ()) for r in trace.requests),
        lookup_blocks=tally.lookup_blocks,
        hit_blocks=tally.hit_blocks,
        full_prefix_hits=full_prefix_hits,
        evictions=tally.evictions,
        blocks_allocated=tally.blocks_allocated,
        cached_end=cache.num_cached_blocks,
    )


class _Tally:
    """A sink for the two events that matter here; `Counters` folds all, at three times the cost."""

    def __init__(self) -> None:
        self.blocks_allocated = self.evictions = self.lookup_blocks = self.hit_blocks = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, BlocksAllocated):
            self.blocks_allocated += event.num_blocks
            self.evictions += event.num_evicted
        elif isinstance(event, PrefixLookup):
            self.lookup_blocks += event.num_blocks
            self.hit_blocks += event.num_hit_blocks


def _cache(trace: Trace, num_blocks: int | None) -> BlockManager:
    block_size = trace.block_size
    if block_size is None:
        raise ConfigError(
            f"{trace.name or 'the trace'} has no block ids, and a hit rate is not invented: choose "
            "--prefix-model none (prompts share nothing) or shared:N (all begin with the same N tokens)"
        )
    size = pool_size(num_blocks, sum(r.num_blocks(block_size) for r in trace.requests))
    return BlockManager(CacheConfig(num_blocks=size, block_size=block_size, prefix_keys="ids"))


def _run(cache: BlockManager, request: TraceRequest) -> int:
    """Admit and release; returns the number of prompt tokens that were reused."""
    placement = cache.admit_keys(
        request.index,
        _NO_IDS if request.block_ids is None else request.block_ids,
        num_prompt_tokens=request.num_prompt_tokens,
        num_tokens=request.num_prompt_tokens + request.num_output_tokens,
    )
    cache.release(request.index)
    return placement.num_cached_tokens
