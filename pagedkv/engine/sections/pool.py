"""Blocks: how many are in which state, which are, who has them, and what lies below the device."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from pagedkv.block_manager import BlockState, CacheCopy
from pagedkv.engine.sections.subject import Subject, breathe

__all__ = ["LETTERS", "blocks", "offload", "pool", "tables", "usage"]

LETTERS = {
    BlockState.FREE: ".",
    BlockState.CACHED_IDLE: "c",
    BlockState.IN_USE: "u",
    BlockState.SHARED: "s",
    BlockState.DEFERRED: "d",
    BlockState.PAGING_IN: "p",
}
"""How a state is written in the map of the blocks."""

_LETTERS = np.frombuffer("".join(LETTERS[state] for state in BlockState).encode(), np.uint8)
_MOST_SHARED = 16
_AT_ONCE = 32


def pool(subject: Subject) -> Callable[[], dict[str, Any]]:
    """Numbers of blocks."""
    cache, num_deferred = subject.cache, subject.scheduler.cache.num_deferred_blocks

    def show() -> dict[str, Any]:
        return {
            "num_blocks": cache.pool.num_blocks,
            "num_free": cache.pool.num_free,
            "num_cached": cache.num_cached,
            "num_deferred": num_deferred,
            "num_sequences": len(cache.sequences),
            "num_by_state": cache.num_by_state(),
            "refcount_hist": cache.pool.refcount_hist(),
            "fragmentation": asdict(cache.fragmentation()),
        }

    return show


def usage(subject: Subject) -> Callable[[], dict[str, Any]]:
    """Little enough to be asked for each second."""
    cache = subject.cache
    return lambda: {"num_by_state": cache.num_by_state(), "internal_ratio": cache.internal_ratio()}


def blocks(subject: Subject) -> Callable[[], dict[str, Any]]:
    """Each block."""
    cache = subject.cache

    def show() -> dict[str, Any]:
        return {
            "states": _LETTERS[cache.states].tobytes().decode(),
            "num_by_ref_count": {str(number): count for number, count in cache.ref_hist().items()},
            "most_shared": _most_shared(cache),
        }

    return show


def tables(subject: Subject) -> Callable[[], list[dict[str, Any]]]:
    """The blocks of each sequence."""
    cache = subject.cache

    def show() -> list[dict[str, Any]]:
        shown = []
        for number, seq_id in enumerate(cache.sequences.seq_ids()):
            table = cache.table(seq_id).tolist()
            shown.append({"seq_id": seq_id, "num_tokens": cache.num_tokens(seq_id), "blocks": table})
            if number % _AT_ONCE == 0:
                breathe()
        return shown

    return show


def offload(subject: Subject) -> Callable[[], dict[str, int] | None]:
    """Pages below the device."""
    tiers = subject.scheduler.cache.tiers
    if tiers is None:
        return lambda: None
    numbers = {
        "num_host_slots": tiers.num_host_slots,
        "num_host_pages": tiers.num_host_pages,
        "num_file_pages": tiers.num_file_pages,
        "num_paging_in": tiers.num_rising,
        "num_fetching": tiers.num_fetching,
        "num_waiting_to_fetch": tiers.num_waiting_to_fetch,
        "num_spilling": tiers.num_spilling,
    }
    return lambda: numbers


def _most_shared(cache: CacheCopy) -> list[dict[str, int]]:
    counts = cache.pool.ref_counts()
    first = np.argsort(-counts, kind="stable")[:_MOST_SHARED].tolist()
    return [{"block": block, "ref_count": int(counts[block])} for block in first if counts[block] > 1]
