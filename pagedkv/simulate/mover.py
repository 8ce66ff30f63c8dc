"""A mover of pages on a virtual clock: links and disks are queues that serve at their bandwidth."""

import heapq
from collections.abc import Mapping, Sequence

from pagedkv.block_ids import Int64s
from pagedkv.clock import VirtualClock
from pagedkv.events import EventStream, Route, StreamAwaited
from pagedkv.offload.mover import Moved
from pagedkv.simulate.profiles import DeviceProfile

__all__ = ["SimulatedMover"]

_NS_PER_S = 1_000_000_000
_STAGING_PAGES = 64
_DIRECTIONS = 2  # of a link
_DISK_LATENCY_NS = 80_000  # an NVMe drive's random read, by data sheets of enterprise drives
_SUBMIT_NS = 10_000  # a copy's launch and its event
_CHECKED_BYTES_PER_S = 23_000_000_000  # XXH3 on one core, docs/offload_io.md


class SimulatedMover:
    """Takes the time that copies take on a device's link and on its host's disks, and copies nothing.

    A direction of the link, and reading and writing of the disks, are served one copy after the other. While
    both directions of the link are busy, each gets half of what they reach together. Blocks wait for the link
    in a staging buffer of 64 pages; what is stored beyond that lets the clock advance, as a step would wait.

    With one stream both directions of the link are one queue. Without a stream they are that too, and the
    next step waits until it is empty. Without deferred events it waits for the pages that were asked for. A
    read or a write of the disks keeps a thread busy until its checksum is computed, and begins when one is
    free; reads and writes have as many threads each.

    Args:
        clock: the clock.
        device: whose links and disks.
        page_bytes: bytes of a page, over all devices.
        num_slots: slots of host memory.
        num_places: places of the file.
        num_devices: devices that hold a part of each page, with a link each.
        io_streams: see `OffloadConfig`.
        io_threads: likewise.
        deferred_events: likewise.

    Attributes:
        stalled_ns: time that stores have waited for the staging buffer.
    """

    def __init__(
        self,
        clock: VirtualClock,
        device: DeviceProfile,
        *,
        page_bytes: int,
        num_slots: int,
        num_places: int = 0,
        num_devices: int = 1,
        io_streams: int = 2,
        io_threads: int = 4,
        deferred_events: bool = True,
    ) -> None:
        self.page_bytes, self.num_slots, self.num_places = page_bytes, num_slots, num_places
        self.stalled_ns = 0
        self._clock = clock
        link = device.reached_link_bytes_per_s * num_devices
        self._duplex = device.reached_duplex_bytes_per_s * num_devices // 2
        self._speed: dict[Route, int] = {"page_out": link, "page_in": link}
        if num_places:
            self._speed |= {"spill": device.disk_write_bytes_per_s, "fetch": device.disk_read_bytes_per_s}
        self._queue: dict[Route, Route] = {route: route for route in self._speed}
        if io_streams < _DIRECTIONS:
            self._queue["page_in"] = "page_out"
        self._free_ns: dict[Route, int] = dict.fromkeys(self._speed, 0)
        self._threads: dict[Route, list[int]] = {  # when each is free
            route: [0] * io_threads for route in ("spill", "fetch")
        }
        self._checked_ns = page_bytes * _NS_PER_S // _CHECKED_BYTES_PER_S
        self._steps_copy, self._steps_await = not io_streams, not deferred_events
        self._awaited_ns: dict[Route, int] = {"page_out": 0, "page_in": 0}  # until when the next step waits
        self._events: EventStream | None = None
        self._ready_ns: dict[int, int] = {}  # of slots that are still being stored to
        self._in_flight: list[tuple[int, int]] = []  # (end, operation)
        self._num_operations = 0

    def tell(self, events: EventStream) -> None:
        """Tell this stream what steps wait for."""
        self._events = events

    def begin_step(self) -> None:
        """Let the clock advance until the copies have ended that a step waits for."""
        for route, until_ns in self._awaited_ns.items():
            if (wait_ns := until_ns - self._clock.now_ns()) > 0:
                self._await(route, wait_ns)

    @property
    def bandwidth(self) -> Mapping[Route, int]:
        """Bytes per second of each route."""
        return self._speed

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Queue copies to the host, as soon as the staging buffer takes them."""
        now_ns = self._clock.now_ns()
        end_ns = self._serve("page_out", len(blocks), now_ns)
        self._ready_ns.update(dict.fromkeys(slots.tolist(), end_ns))
        waits_ns = end_ns - now_ns - self._ns("page_out", _STAGING_PAGES)
        if self._steps_copy:
            self._awaited_ns["page_out"] = end_ns
        elif waits_ns > 0:
            self.stalled_ns += waits_ns
            self._await("page_out", waits_ns)

    def load(self, slots: Int64s, blocks: Int64s) -> int:
        """Queue copies to the device."""
        ready_ns = max((self._ready_ns.get(slot, 0) for slot in slots.tolist()), default=0)
        operation, end_ns = self._submit("page_in", len(blocks), ready_ns, _SUBMIT_NS)
        if self._steps_copy or self._steps_await:
            self._awaited_ns["page_in"] = max(self._awaited_ns["page_in"], end_ns)
        return operation

    def spill(self, slot: int, place: int) -> int:  # noqa: ARG002 - one place is as far as the other
        """Queue a write."""
        return self._submit_file("spill", self._ready_ns.get(slot, 0))

    def fetch(self, place: int, slot: int) -> int:  # noqa: ARG002 - likewise
        """Queue a read."""
        self._ready_ns.pop(slot, None)
        return self._submit_file("fetch", 0)

    def poll(self) -> Sequence[Moved]:
        """Copies whose time has come, in the order in which they end."""
        ended = []
        now_ns = self._clock.now_ns()
        while self._in_flight and self._in_flight[0][0] <= now_ns:
            ended.append(Moved(heapq.heappop(self._in_flight)[1]))
        return ended

    def wait(self, timeout_s: float) -> None:
        """Let the clock advance until something has ended."""
        until_ns = self._clock.now_ns() + round(timeout_s * _NS_PER_S)
        next_ns = self.next_ns()
        self._clock.sleep_until(until_ns if next_ns is None else min(until_ns, next_ns))

    def next_ns(self) -> int | None:
        """When a copy ends next."""
        return self._in_flight[0][0] if self._in_flight else None

    def close(self) -> None:
        """Nothing is held."""

    def _await(self, route: Route, wait_ns: int) -> None:
        self._clock.advance(wait_ns)
        if self._events is not None and (emit := self._events.emit) is not None:
            emit(StreamAwaited(route, wait_ns))

    def _submit_file(self, route: Route, ready_ns: int) -> int:
        """Queue a copy of a page to or from the file, behind the thread that is free first."""
        threads = self._threads[route]
        operation, end_ns = self._submit(route, 1, max(ready_ns, threads[0]), _DISK_LATENCY_NS)
        heapq.heapreplace(threads, end_ns + self._checked_ns)
        return operation

    def _submit(self, route: Route, num_pages: int, ready_ns: int, latency_ns: int) -> tuple[int, int]:
        """Queue a copy; returns its number, and when it ends."""
        end_ns = self._serve(route, num_pages, max(ready_ns, self._clock.now_ns())) + latency_ns
        self._num_operations += 1
        heapq.heappush(self._in_flight, (end_ns, self._num_operations))
        return self._num_operations, end_ns

    def _serve(self, route: Route, num_pages: int, ready_ns: int) -> int:
        """Put a copy behind those that wait on its route; returns when it has gone through."""
        queue = self._queue[route]
        begin_ns = max(ready_ns, self._free_ns[queue])
        self._free_ns[queue] = end_ns = begin_ns + self._ns(route, num_pages, begin_ns)
        return end_ns

    def _ns(self, route: Route, num_pages: int, at_ns: int | None = None) -> int:
        """Time for so many pages, beside what the link does in the other direction at that time."""
        other: Route = "page_in" if route == "page_out" else "page_out"
        is_shared = (
            at_ns is not None
            and route in ("page_in", "page_out")
            and self._queue["page_in"] != self._queue["page_out"]
            and self._free_ns[other] > at_ns
        )
        speed = self._duplex if is_shared else self._speed[route]
        return -(-num_pages * self.page_bytes * _NS_PER_S // speed)
