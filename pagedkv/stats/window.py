"""A stretch of steps, as detectors look at it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pagedkv.block_ids import Int64s
from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig

__all__ = ["StatsWindow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsWindow:
    """What is known of some steps that followed each other, and of the settings they ran under.

    Attributes:
        cache: settings of the cache.
        scheduler: settings of the scheduler; None if there was none.
        offload: settings of the tiers below the device; None if there were none.
        columns: by name, see `pagedkv.stats.COLUMNS`, a value for each step. Each of shape `[num_steps]`
            (int64).
    """

    cache: CacheConfig
    scheduler: SchedulerConfig | None = None
    offload: OffloadConfig | None = None
    columns: Mapping[str, Int64s]

    def __getitem__(self, name: str) -> Int64s:
        """A column. Shape `[num_steps]` (int64)."""
        return self.columns[name]

    def __len__(self) -> int:
        """How many steps there are."""
        return len(next(iter(self.columns.values())))

    def total(self, name: str) -> int:
        """The sum of a column."""
        return int(self.columns[name].sum())

    def part(self, start: int, stop: int) -> "StatsWindow":
        """The steps from one place to before another."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return StatsWindow(cache=self.cache, scheduler=self.scheduler, offload=self.offload, columns=columns)
