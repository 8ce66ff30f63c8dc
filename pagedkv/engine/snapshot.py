"""The state of an engine as plain values, for people and tools that look at it from outside."""

from dataclasses import asdict
from typing import Any

from pagedkv.block_manager import BlockManager
from pagedkv.errors import UnknownSequence
from pagedkv.offload.tiers import PageTiers
from pagedkv.scheduler import RequestState, Scheduler, SequenceState

__all__ = ["SCHEMA_VERSION", "snapshot"]

SCHEMA_VERSION = 1

_NS_PER_MS = 1e6


def snapshot(scheduler: Scheduler) -> dict[str, Any]:
    """What a scheduler and its cache hold now. O(requests + blocks); changes nothing.

    Only what JSON knows is in it. docs/engine.md describes it field by field.
    """
    now_ns = scheduler.clock.now_ns()
    step, config = scheduler.in_flight, scheduler.config
    return {
        "schema_version": SCHEMA_VERSION,
        "time_ns": now_ns,
        "config": {
            "cache": asdict(scheduler.cache.config),
            "scheduler": asdict(config) | {"length_buckets": list(config.length_buckets)},
        },
        "pool": _pool(scheduler.cache),
        "offload": None if (tiers := scheduler.cache.tiers) is None else _offload(tiers),
        "num_waiting": scheduler.num_waiting,
        "num_running": scheduler.num_running,
        "step_in_flight": None if step is None else step.number,
        "requests": [_request(each, scheduler.cache, now_ns) for each in list(scheduler.requests.values())],
    }


def _pool(cache: BlockManager) -> dict[str, Any]:
    pool = cache.pool
    return {
        "num_blocks": pool.num_blocks,
        "num_free": pool.num_free,
        "num_cached": cache.num_cached_blocks,
        "num_deferred": cache.num_deferred_blocks,
        "num_sequences": cache.num_sequences,
        "refcount_hist": cache.refcount_hist(),
        "fragmentation": asdict(cache.fragmentation()),
    }


def _offload(tiers: PageTiers) -> dict[str, int]:
    return {
        "num_host_slots": tiers.num_host_slots,
        "num_host_pages": tiers.num_host_pages,
        "num_file_pages": tiers.num_file_pages,
        "num_paging_in": tiers.num_rising,
        "num_fetching": tiers.num_fetching,
        "num_waiting_to_fetch": tiers.num_waiting_to_fetch,
        "num_spilling": tiers.num_spilling,
    }


def _request(state: RequestState, cache: BlockManager, now_ns: int) -> dict[str, Any]:
    request = state.request
    is_waiting = state.status.value == "waiting"
    return {
        "request_id": request.request_id,
        "status": state.status.value,
        "priority": request.priority,
        "age_ms": (now_ns - state.arrival_ns) / _NS_PER_MS,
        "waiting_ms": (now_ns - state.queued_ns) / _NS_PER_MS if is_waiting else 0.0,
        "num_prompt_tokens": request.prompt.num_tokens,
        "max_tokens": request.max_tokens,
        "num_cached_tokens": state.num_cached_tokens,
        "num_preemptions": state.num_preemptions,
        "num_lost_tokens": state.num_lost_tokens,
        "num_overtakes": state.num_overtakes,
        "is_promoted": state.is_promoted,
        "num_finished_sequences": len(state.finished),
        "sequences": [_sequence(each, cache) for each in list(state.sequences)],
    }


def _sequence(sequence: SequenceState, cache: BlockManager) -> dict[str, Any]:
    try:
        num_blocks = len(cache.block_table(sequence.seq_id))
    except UnknownSequence:  # its request waits
        num_blocks = 0
    return {
        "seq_id": sequence.seq_id,
        "index": sequence.index,
        "num_output_tokens": sequence.num_output_tokens,
        "num_blocks": num_blocks,
    }
