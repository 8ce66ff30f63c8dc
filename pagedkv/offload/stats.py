"""What the tiers below the device have done, folded from events."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatchmethod

from pagedkv import events as ev
from pagedkv.logs import is_stall

__all__ = ["OffloadFold", "OffloadStats"]

_ROUTES: tuple[ev.Route, ...] = ("page_out", "page_in", "spill", "fetch")


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadStats:
    """Traffic between the device and the tiers below it, since they were made.

    Attributes:
        num_page_outs: evicted blocks that were kept as pages.
        num_copied: those of them that took a copy; of the others, one was still there.
        num_refused: evicted blocks with cached content that was not kept.
        num_page_ins: pages that came back to the device.
        num_from_file: those that were asked for and had to be read from the file first.
        num_prefetched: those that were asked for before the turn of their request.
        num_again: those that were asked for though they had been on the device a short time before: thrash.
        num_failed: pages that were asked for and did not come; their tokens are computed again.
        num_dropped: pages that gave way before anybody asked for them.
        num_in_time: pages that were on the device when the turn of their request came.
        num_late: pages that their request waited for.
        num_gave_up: those of them that it began without, in the end.
        awaited_ns: time that requests waited for their pages when it was their turn.
        num_stalls: page-ins that certainly took much longer than the measured bandwidths say.
        num_throttled: times that copies began to be held back.
        max_page_in_ns: longest time from asking for pages to finding them there, between two steps.
        num_bytes: that were copied, by route.
        num_errors: copies that failed, by route.
    """

    num_page_outs: int = 0
    num_copied: int = 0
    num_refused: int = 0
    num_page_ins: int = 0
    num_from_file: int = 0
    num_prefetched: int = 0
    num_again: int = 0
    num_failed: int = 0
    num_dropped: int = 0
    num_in_time: int = 0
    num_late: int = 0
    num_gave_up: int = 0
    awaited_ns: int = 0
    num_stalls: int = 0
    num_throttled: int = 0
    max_page_in_ns: int = 0
    num_bytes: Mapping[ev.Route, int]
    num_errors: Mapping[ev.Route, int]


class OffloadFold:
    """A sink that folds events into `OffloadStats`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[ev.Route] = Counter()
        self._errors: Counter[ev.Route] = Counter()
        self._awaited_ns = self._longest_ns = 0

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._fold(event)

    def as_stats(self) -> OffloadStats:
        """The numbers until now."""
        return OffloadStats(
            **self._counts,
            awaited_ns=self._awaited_ns,
            max_page_in_ns=self._longest_ns,
            num_bytes={route: self._bytes[route] for route in _ROUTES},
            num_errors={route: self._errors[route] for route in _ROUTES},
        )

    @singledispatchmethod
    def _fold(self, event: ev.Event) -> None:
        """Most kinds of event say nothing about pages."""

    @_fold.register
    def _(self, event: ev.PagesStored) -> None:
        self._counts["num_page_outs"] += event.num_pages
        self._counts["num_copied"] += event.num_copied
        self._counts["num_refused"] += event.num_refused
        self._bytes["page_out"] += event.num_bytes

    @_fold.register
    def _(self, event: ev.PagesMoved) -> None:
        if event.error:
            self._errors[event.route] += 1
        else:
            self._bytes[event.route] += event.num_bytes

    @_fold.register
    def _(self, event: ev.PagesDropped) -> None:
        self._counts["num_dropped"] += event.num_pages

    @_fold.register
    def _(self, event: ev.PageInStarted) -> None:
        self._counts["num_from_file"] += event.num_from_file
        self._counts["num_again"] += event.num_again
        if event.is_ahead:
            self._counts["num_prefetched"] += event.num_pages

    @_fold.register
    def _(self, event: ev.PageInEnded) -> None:
        self._counts["num_page_ins"] += event.num_pages - event.num_failed
        self._counts["num_failed"] += event.num_failed
        self._counts["num_stalls"] += is_stall(event)
        self._longest_ns = max(self._longest_ns, event.latency_ns)

    @_fold.register
    def _(self, event: ev.RequestAwaitedPages) -> None:
        is_late = event.wait_ns or event.gave_up
        self._counts["num_late" if is_late else "num_in_time"] += event.num_pages
        self._counts["num_gave_up"] += event.num_pages * event.gave_up
        self._awaited_ns += event.wait_ns

    @_fold.register
    def _(self, _event: ev.OffloadThrottled) -> None:
        self._counts["num_throttled"] += 1
