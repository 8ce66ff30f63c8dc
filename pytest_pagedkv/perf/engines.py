"""Engines on a virtual clock, for tests: everything is real but the device."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import Engine
from pagedkv.errors import InvariantError
from pagedkv.scheduler import Scheduler
from pagedkv.simulate import CostModel, SimulatedExecutor

__all__ = ["WatchedEngine", "simulated_engine"]

_NUM_BLOCKS = 1024


def simulated_engine(
    clock: VirtualClock,
    settings: Mapping[str, Any],
    *,
    device: str = "h200",
    model: str = "llama-3-8b",
    seed: int = 0,
) -> Engine:
    """An engine whose steps take the time that a model takes on a device, and whose tokens are made up.

    Args:
        clock: the clock that these times pass on.
        settings: those of `CacheConfig` (with 1024 blocks, if nobody says) and `SchedulerConfig`, by name.
        device: the name of a device profile.
        model: the name of a model shape.
        seed: of the tokens.

    Raises:
        TypeError: there is no such setting.
        ConfigError: a setting has no such value.
    """
    chosen = {"num_blocks": _NUM_BLOCKS, **settings}
    cache = CacheConfig(**{name: chosen.pop(name) for name in _names(CacheConfig) & chosen.keys()})
    if unknown := sorted(chosen.keys() - _names(SchedulerConfig)):
        known = ", ".join(sorted(_names(CacheConfig) | _names(SchedulerConfig)))
        raise TypeError(f"{unknown[0]!r} is no setting of an engine; there are device, model, seed, {known}")
    scheduler = Scheduler(BlockManager(cache), SchedulerConfig(**chosen), clock)
    cost = CostModel(device, model, block_size=cache.block_size)
    return Engine(SimulatedExecutor(clock, cost, seed=seed), scheduler, seed=seed)


def _names(config: type[CacheConfig | SchedulerConfig]) -> set[str]:
    return {field.name for field in fields(config)}


class WatchedEngine:
    """An engine as the recorder watches it: its cache has to be whole, and free when the engine is closed.

    Args:
        engine: the engine; checking it closes it.

    Attributes:
        events: the stream that scheduler and cache tell what they do.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.events = engine.scheduler.events

    def check_integrity(self) -> None:
        """Close the engine, which aborts what is live, and look at its blocks.

        Raises:
            InvariantError: the books of the cache do not balance, or somebody still has blocks.
        """
        self._engine.close()
        cache = self._engine.scheduler.cache
        cache.check_integrity()
        num_free, num_blocks = cache.pool.num_free, cache.pool.num_blocks
        if num_free != num_blocks:
            raise InvariantError(
                f"{num_blocks - num_free} of {num_blocks} blocks did not come home: "
                "the engine is closed, and no request is live"
            )
