"""Index, pool and tiers of one mind: what is registered is marked in the pool, or a page of the tiers."""

from array import array

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.block_pool import BlockPool
from pagedkv.events import BlocksRegistered, BlocksUnregistered
from pagedkv.offload.tiers import PageTiers
from pagedkv.prefix_cache import IdIndex, TokenIndex

__all__ = ["mark_registered", "stand_for", "unregister"]


def mark_registered(pool: BlockPool, blocks: "array[int]") -> None:
    """Tell the pool that blocks in use have just been registered."""
    if blocks:
        pool.mark_cached(blocks)
        if (emit := pool.events.emit) is not None:
            emit(BlocksRegistered(len(blocks)))


def unregister(
    pool: BlockPool,
    index: TokenIndex | IdIndex,
    blocks: Int64s,
    num_evicted: int = 0,
    tiers: PageTiers | None = None,
) -> None:
    """Take blocks and pages, and what depends on them, out of the index, and tell those who have them.

    Args:
        pool: owner of the blocks.
        index: where they are registered.
        blocks: the blocks and pages.
        num_evicted: how many of them the pool has evicted, and so counted, itself.
        tiers: owner of the pages, if there are any.
    """
    dropped = index.forget(blocks)
    if tiers is not None:
        dropped = _forget_pages(tiers, dropped)
    if len(dropped) > num_evicted:
        pool.unmark_cached(dropped)
        if (emit := pool.events.emit) is not None:
            emit(BlocksUnregistered(len(dropped) - num_evicted))


def stand_for(
    pool: BlockPool,
    index: TokenIndex | IdIndex,
    was: Int64s,
    now: Int64s,
    tiers: PageTiers | None = None,
) -> None:
    """Let blocks in use stand for the prefixes of idle blocks and of pages, which they hold too."""
    index.substitute(was, now)
    if tiers is not None:
        is_page = was >= tiers.first_page
        if is_page.any():
            tiers.forget(was[is_page], wanted=True)
            was = was[~is_page]
    mark_registered(pool, array("q", now.tobytes()))
    if len(was):
        pool.unmark_cached(was)
        if (emit := pool.events.emit) is not None:
            emit(BlocksUnregistered(len(was)))


def _forget_pages(tiers: PageTiers, dropped: "array[int]") -> "array[int]":
    """Forget the pages among blocks that were dropped, and return the others."""
    ids = np.frombuffer(dropped, np.int64)
    is_page = ids >= tiers.first_page
    if not is_page.any():
        return dropped
    tiers.forget(ids[is_page])
    return array("q", ids[~is_page].tobytes())
