"""What the tiers below the device tell."""

from dataclasses import dataclass
from typing import Literal

from pagedkv.events.stream import Event

__all__ = [
    "OffloadThrottled",
    "PageInEnded",
    "PageInStarted",
    "PagesDropped",
    "PagesMoved",
    "PagesStored",
    "RequestAwaitedPages",
    "Route",
    "StreamAwaited",
]

Route = Literal["page_out", "page_in", "spill", "fetch"]
"""From device to host, from host to device, from host to file, from file to host."""


@dataclass(frozen=True, slots=True)
class PagesStored(Event):
    """Blocks were evicted: `num_pages` of them are kept as pages on the host, `num_refused` are lost.

    `num_copied` of the pages took a copy; of the others, one was still there. By the measured bandwidth the
    copies take `copy_ns`.
    """

    num_pages: int
    num_refused: int
    num_copied: int
    num_bytes: int
    copy_ns: int = 0


@dataclass(frozen=True, slots=True)
class PagesMoved(Event):
    """A copy has ended, `duration_ns` after it began to wait; `error` says why it failed, or is empty.

    By the measured bandwidth it takes `copy_ns`.
    """

    route: Route
    num_pages: int
    num_bytes: int
    duration_ns: int
    error: str = ""
    copy_ns: int = 0


@dataclass(frozen=True, slots=True)
class PagesDropped(Event):
    """Pages left the tiers before anybody asked for them: for `reason` "room", "error", or "forgotten"."""

    num_pages: int
    reason: Literal["room", "error", "forgotten"]


@dataclass(frozen=True, slots=True)
class PageInStarted(Event):
    """Pages are on their way to the device, `num_from_file` of them from a file.

    `num_again` of them were on the device less than a window before. `is_ahead` says that the request's turn
    had not come.
    """

    num_pages: int
    num_from_file: int
    num_again: int
    is_ahead: bool


@dataclass(frozen=True, slots=True)
class PageInEnded(Event):
    """Pages are on the device, all but `num_failed`, `latency_ns` after they were asked for.

    By the measured bandwidths it takes `expected_ns`. Nobody looked in the last `unseen_ns` before that, for
    a step, say: they may have been there since.
    """

    num_pages: int
    num_failed: int
    latency_ns: int
    expected_ns: int
    unseen_ns: int = 0

    @property
    def certain_ns(self) -> int:
        """For how long pages were certainly missing: what comes during a step is found behind it."""
        return self.latency_ns - self.unseen_ns


@dataclass(frozen=True, slots=True)
class RequestAwaitedPages(Event):
    """A request begins, and its turn had come `wait_ns` before its pages did; 0 if they were there in time.

    `gave_up` says that it begins without them.
    """

    request_id: int | str
    num_pages: int
    wait_ns: int
    gave_up: bool = False


@dataclass(frozen=True, slots=True)
class OffloadThrottled(Event):
    """A copy is held back, because `num_in_flight` of its route are under way already."""

    route: Route
    num_in_flight: int


@dataclass(frozen=True, slots=True)
class StreamAwaited(Event):
    """A step stood still for `wait_ns`, until copies of a route had ended.

    Of "page_in": pages that were asked for. Of "page_out": evicted blocks, whose staging buffer was full, or
    which are copied by the step itself.
    """

    route: Route
    wait_ns: int
