"""Sequences over a block pool: admission with prefix reuse, decode steps, copy-on-write, forks."""

from pagedkv.block_manager.copied import BlockState, CacheCopy
from pagedkv.block_manager.manager import BlockManager
from pagedkv.block_manager.paging import PagedPrefix, PageIn
from pagedkv.block_manager.placement import BatchPlacement, Fragmentation, Placement, PrefixHit

__all__ = [
    "BatchPlacement",
    "BlockManager",
    "BlockState",
    "CacheCopy",
    "Fragmentation",
    "PageIn",
    "PagedPrefix",
    "Placement",
    "PrefixHit",
]
