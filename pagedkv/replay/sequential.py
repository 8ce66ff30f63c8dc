"""One request after the other, with a prefix cache: how much would be reused, and what is evicted."""

from array import array
from dataclasses import dataclass, fields

from pagedkv.block_manager import BlockManager
from pagedkv.config import CacheConfig, EvictionPolicy
from pagedkv.errors import ConfigError, OutOfBlocks
from pagedkv.events import BlocksAllocated, Event, PrefixLookup
from pagedkv.replay.host_tier import HostTally, page_in, with_host_tier
from pagedkv.replay.result import Progress, ReplayResult, pool_size, ratio, tracked
from pagedkv.traces import Trace, TraceRequest

__all__ = ["SequentialResult", "TieredResult", "replay_sequential"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredResult(SequentialResult):
    """Result of `replay_sequential` with a host tier below the pool. `hit_blocks` counts both.

    Attributes:
        device_hit_blocks: blocks that were reused where they were, in the pool.
        host_hit_blocks: blocks that were reused after they had been brought up from the host: page-ins.
        page_outs: evicted blocks that the host took; the others had no room there.
    """

    device_hit_blocks: int
    host_hit_blocks: int
    page_outs: int


def replay_sequential(
    trace: Trace,
    num_blocks: int | None = None,
    *,
    num_host_blocks: int = 0,
    host_policy: EvictionPolicy = "lru",
    progress: Progress | None = None,
) -> SequentialResult:
    """Run the requests in file order, each to its end, through a prefix cache of `num_blocks` blocks.

    A request takes blocks for prompt and output at once, reuses the longest run of leading blocks whose ids
    are registered, registers its own full prompt blocks, and gives all blocks back, last one first.

    Args:
        trace: a trace with block ids; their block size is the cache's.
        num_blocks: size of the pool; None for as many as are ever needed.
        num_host_blocks: blocks of a host tier, which keeps what the pool evicts. What a prompt finds there is
            brought up before the request takes its blocks.
        host_policy: which of them give way.
        progress: told how far it is.

    Returns:
        A `TieredResult` if there is a host tier.

    Raises:
        ConfigError: the trace has no block ids, or `num_blocks` is not a size that a pool can have, or there
            is to be a host tier below a pool that never evicts.
    """
    cache = _cache(trace, num_blocks, num_host_blocks, host_policy)
    tally, host = _Tally(), HostTally()
    cache.events.attach(tally)
    if num_host_blocks:
        cache.events.attach(host)
    rejected = full_prefix_hits = 0
    for request in tracked(trace.requests, progress):
        try:
            num_hits = _run(cache, request, num_host_blocks > 0) // cache.config.block_size
        except OutOfBlocks:
            rejected += 1
        else:
            full_prefix_hits += 0 < num_hits == (request.num_prompt_tokens - 1) // cache.config.block_size
    result = SequentialResult(
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
    if not num_host_blocks:
        return result
    counted = {field.name: getattr(result, field.name) for field in fields(result)}
    return TieredResult(
        **counted,
        device_hit_blocks=result.hit_blocks - host.page_ins,
        host_hit_blocks=host.page_ins,
        page_outs=host.page_outs,
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


def _cache(
    trace: Trace, num_blocks: int | None, num_host_blocks: int, host_policy: EvictionPolicy
) -> BlockManager:
    block_size = trace.block_size
    if block_size is None:
        raise ConfigError(
            f"{trace.name or 'the trace'} has no block ids, and a hit rate is not invented: choose "
            "--prefix-model none (prompts share nothing) or shared:N (all begin with the same N tokens)"
        )
    size = pool_size(num_blocks, sum(r.num_blocks(block_size) for r in trace.requests))
    config = CacheConfig(num_blocks=size, block_size=block_size, prefix_keys="ids")
    if not num_host_blocks:
        return BlockManager(config)
    if num_blocks is None:
        raise ConfigError(
            f"{num_host_blocks} host blocks below a pool of inf, which never evicts: give the pool a size"
        )
    return with_host_tier(config, num_host_blocks, host_policy)


def _run(cache: BlockManager, request: TraceRequest, has_host: bool) -> int:
    """Admit and release; returns the number of prompt tokens that were reused."""
    if has_host and request.num_blocks(cache.config.block_size) <= cache.pool.num_blocks:
        page_in(cache, request)
    placement = cache.admit_keys(
        request.index,
        _NO_IDS if request.block_ids is None else request.block_ids,
        num_prompt_tokens=request.num_prompt_tokens,
        num_tokens=request.num_prompt_tokens + request.num_output_tokens,
    )
    cache.release(request.index)
    return placement.num_cached_tokens
