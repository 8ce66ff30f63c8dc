"""What is known of an engine from outside: statistics, snapshots, its last steps, and servers for them."""

from collections.abc import Callable, Sequence
from typing import Any

from pagedkv.engine import snapshot
from pagedkv.engine.live import LiveView, SocketPath
from pagedkv.engine.stats import EngineStats, StatsFold
from pagedkv.live import Gate
from pagedkv.scheduler import Scheduler
from pagedkv.stats import StepLog

__all__ = ["Observer"]

_LOGGED_STEPS = 1024  # that detectors look at


class Observer:
    """Folds the events of one scheduler, from the beginning until `close`. It changes nothing of it.

    Steps are logged for the detectors only where somebody can ask from outside.

    Args:
        scheduler: the scheduler.
        gate: where others look at it.
        debug_socket: where they are answered, as the engine's.
        metrics_address: where Prometheus finds metrics, likewise.

    Raises:
        ConfigError: the socket or the address cannot be had.

    Attributes:
        live: the servers.
    """

    def __init__(
        self, scheduler: Scheduler, gate: Gate, debug_socket: SocketPath, metrics_address: str | None
    ) -> None:
        cache = scheduler.cache
        self._scheduler = scheduler
        self._stats = StatsFold(cache.internal_fragmentation, with_offload=cache.tiers is not None)
        self._log: StepLog | None = None
        self.live = LiveView(gate, self.copied, debug_socket, metrics_address)
        scheduler.events.attach(self._stats)
        if self.live.is_on:
            self._log = StepLog(
                cache,
                scheduler=scheduler.config,
                offload=scheduler.offload,
                max_steps=_LOGGED_STEPS,
            )
            scheduler.events.attach(self._log)

    def stats(self) -> EngineStats:
        """What was measured until now; never raises."""
        return self._stats.as_stats(self._scheduler)

    def step_failed(self) -> None:
        """A step was for nothing."""
        self._stats.step_failed()

    def copied(self, sections: Sequence[str] | None = None) -> Callable[[], dict[str, Any]]:
        """Copy what there is now; returns what makes a snapshot of it, on any thread.

        Raises:
            InvalidRequest: there is no section of that name.
        """
        return snapshot.copied(self._scheduler, self._stats, sections, self._log)

    def detach(self) -> None:
        """Fold no more events; statistics stay."""
        for sink in (self._stats, self._log):
            if sink is not None:
                self._scheduler.events.detach(sink)
