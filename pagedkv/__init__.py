"""A paged KV-cache engine: block pool, copy-on-write, prefix cache, scheduler, real models.

Names are imported on first use, so that `import pagedkv` costs neither numpy nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedkv.block_manager import BatchPlacement, BlockManager, Placement
    from pagedkv.block_pool import BlockPool
    from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
    from pagedkv.engine import Engine
    from pagedkv.sampling import SamplingParams

__all__ = [
    "BatchPlacement",
    "BlockManager",
    "BlockPool",
    "CacheConfig",
    "Engine",
    "OffloadConfig",
    "Placement",
    "SamplingParams",
    "SchedulerConfig",
]

_HOME = {
    "BatchPlacement": "pagedkv.block_manager",
    "BlockManager": "pagedkv.block_manager",
    "BlockPool": "pagedkv.block_pool",
    "CacheConfig": "pagedkv.config",
    "Engine": "pagedkv.engine",
    "OffloadConfig": "pagedkv.config",
    "Placement": "pagedkv.block_manager",
    "SamplingParams": "pagedkv.sampling",
    "SchedulerConfig": "pagedkv.config",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
