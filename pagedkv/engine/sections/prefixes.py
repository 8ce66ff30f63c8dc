"""The prefix cache: how large it is, what of it is shared, and what goes next."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from pagedkv.block_manager import BlockState, CacheCopy
from pagedkv.engine.sections.subject import Subject

__all__ = ["prefix_cache"]

_MOST_PREFIXES = 16
_ENDS = 8


def prefix_cache(subject: Subject) -> Callable[[], dict[str, Any] | None]:
    """Null where prefixes are not cached."""
    config = subject.scheduler.cache.config
    if not config.prefix_caching:
        return lambda: None
    cache = subject.cache

    def show() -> dict[str, Any]:
        num_idle = int(np.count_nonzero(cache.states == BlockState.CACHED_IDLE))
        return {
            "prefix_keys": config.prefix_keys,
            "num_blocks": cache.num_cached,
            "num_idle": num_idle,
            "num_pages": cache.num_pages,
            **_tree(cache),
            "idle": _idle(cache),
        }

    return show


def _tree(cache: CacheCopy) -> dict[str, Any]:
    """Null where prefixes are known by ids, and nothing is known of what builds on what."""
    tree = cache.tree
    if tree is None:
        return {"num_namespaces": None, "num_nodes": None, "max_depth": None, "shared_prefixes": []}
    return {
        "num_namespaces": len(tree.namespaces),
        "num_nodes": tree.num_nodes,
        "max_depth": tree.max_depth,
        "shared_prefixes": [asdict(each) for each in tree.shared(cache.num_holders, _MOST_PREFIXES)],
    }


def _idle(cache: CacheCopy) -> dict[str, Any]:
    """The ends of the queue of idle blocks; the head goes next."""
    order = cache.pool.free_order()
    places = np.flatnonzero(cache.pool.cached_mask()[order])
    cached = order[places]
    return {
        "num_free_before": int(places[0]) if len(places) else len(order),
        "next_evicted": cached[:_ENDS].tolist(),
        "last_evicted": cached[::-1][:_ENDS].tolist(),
    }
