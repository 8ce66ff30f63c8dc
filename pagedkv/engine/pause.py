"""What a loop over steps does behind one that computed nothing: it waits, for pages or for a time."""

from pagedkv.scheduler import ScheduledStep, Scheduler
from pagedkv.scheduler.idle import IdleSteps
from pagedkv.tracing import nvtx_range

__all__ = ["Pause"]

_NS_PER_S = 1e9
_LONGEST_WAIT_S = 0.05  # for pages, before requests that came meanwhile are looked at


class Pause:
    """Sleeps until there may be another step.

    Args:
        scheduler: whose steps they are.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._idle = IdleSteps(scheduler)
        self._awaiting_pages = nvtx_range("await pages")

    def after(self, step: ScheduledStep) -> None:
        """Wait as long as this step says; not at all behind one that computed something.

        Raises:
            InvariantError: requests wait, and nothing will ever wake them.
        """
        self._idle.stepped(is_idle=not step and step.wake_ns is None and not step.awaits_pages)
        tiers, clock = self._scheduler.cache.tiers, self._scheduler.clock
        if step.awaits_pages and tiers is not None:
            longest_s = _LONGEST_WAIT_S
            if step.wake_ns is not None:
                longest_s = min(longest_s, max(0, step.wake_ns - clock.now_ns()) / _NS_PER_S)
            with self._awaiting_pages:
                tiers.wait(longest_s)
        elif step.wake_ns is not None:
            clock.sleep_until(step.wake_ns)
