"""Windows of steps that never ran."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pagedkv import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.stats import COLUMNS, StatsWindow

if TYPE_CHECKING:
    from pagedkv.block_ids import Int64s

__all__ = ["MS", "decode_steps", "window_of"]

MS = 10**6


def window_of(num_steps: int, *, offload: OffloadConfig | None = None, **columns: Any) -> StatsWindow:
    """A window in which nothing happens besides what these columns say."""
    found: dict[str, Int64s] = {name: np.zeros(num_steps, np.int64) for name in COLUMNS}
    for name, values in columns.items():
        found[name] = np.broadcast_to(np.asarray(values, np.int64), num_steps).copy()
    return StatsWindow(
        cache=CacheConfig(num_blocks=1000), scheduler=SchedulerConfig(), offload=offload, columns=found
    )


def decode_steps(
    num_steps: int = 400, *, offload: OffloadConfig | None = None, **columns: Any
) -> StatsWindow:
    """Steps of 32 sequences that decode, 10 ms each."""
    usual = {"batch_size": 32, "num_decodes": 32, "num_kv_tokens": 32_000, "duration_ns": 10 * MS}
    return window_of(num_steps, offload=offload, **(usual | columns))
