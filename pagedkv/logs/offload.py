"""Log lines about pages below the device."""

import logging
from functools import singledispatchmethod

from pagedkv import events as ev

__all__ = ["OffloadLog", "is_stall"]

LATENCY_ALARM_NS = 20_000_000
STALL_RATIO = 3
"""Times the time that a page-in takes by the measured bandwidths, above which it has stalled."""
STALL_SLACK_NS = 2_000_000
"""What every page-in may take besides: threads and disks do not answer at once."""
_log = logging.getLogger("pagedkv")


def is_stall(event: ev.PageInEnded) -> bool:
    """Whether a page-in certainly took much longer than its bytes need by the bandwidths of this machine."""
    return event.certain_ns > STALL_RATIO * event.expected_ns + STALL_SLACK_NS


class OffloadLog:
    """A sink that turns the events of the tiers below the device into log lines."""

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._fold(event)

    @singledispatchmethod
    def _fold(self, event: ev.Event) -> None:
        """Most kinds of event say nothing about pages."""

    @_fold.register
    def _(self, event: ev.PageInEnded) -> None:
        if event.certain_ns > LATENCY_ALARM_NS:
            _log.warning("[Offload] Page-in latency > %dms", LATENCY_ALARM_NS // 1_000_000)
        if is_stall(event):
            _log.warning("[Offload] Page-in stall")
        _log.debug(
            "[Offload] Paged in %d blocks in %.2f to %.2f ms (%.2f ms by bandwidth), %d failed",
            event.num_pages,
            event.certain_ns / 1e6,
            event.latency_ns / 1e6,
            event.expected_ns / 1e6,
            event.num_failed,
        )

    @_fold.register
    def _(self, event: ev.OffloadThrottled) -> None:
        _log.warning("[Offload] Throttling IO thread")
        _log.debug("[Offload] %d copies of the route %s are under way", event.num_in_flight, event.route)

    @_fold.register
    def _(self, event: ev.PagesMoved) -> None:
        if event.error:
            _log.warning("[Offload] %s of %d pages failed: %s", event.route, event.num_pages, event.error)

    @_fold.register
    def _(self, event: ev.PagesStored) -> None:
        _log.debug("[Offload] Kept %d evicted blocks, lost %d", event.num_pages, event.num_refused)

    @_fold.register
    def _(self, event: ev.PagesDropped) -> None:
        _log.debug("[Offload] Dropped %d pages: %s", event.num_pages, event.reason)

    @_fold.register
    def _(self, event: ev.RequestAwaitedPages) -> None:
        if event.wait_ns:
            _log.debug(
                "[Offload] Request %s waited %.2f ms for its pages%s",
                event.request_id,
                event.wait_ns / 1e6,
                ", and begins without them" if event.gave_up else "",
            )
