"""Pages on their way to the device: from the host at once, from the file through a slot of the host."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int64s
from pagedkv.clock import Clock
from pagedkv.errors import OffloadError
from pagedkv.events import EventStream, OffloadThrottled, PagesDropped, PagesMoved, Route
from pagedkv.offload.mover import Mover
from pagedkv.offload.page_table import PageTable, State

__all__ = ["PageIns", "PagedIn"]

_NS_PER_S = 1_000_000_000


class PagedIn(NamedTuple):
    """Pages that were asked for together, and have all ended their way.

    Attributes:
        ticket: what `PageTiers.page_in` returned.
        pages: ids of the pages. Shape `[num_pages]` (int64).
        blocks: the block of each. Shape `[num_pages]` (int64).
        arrived: which of them are in their blocks now; the others failed, or were forgotten meanwhile.
            Shape `[num_pages]` (bool).
    """

    ticket: int
    pages: Int64s
    blocks: Int64s
    arrived: npt.NDArray[np.bool_]


@dataclass(slots=True, eq=False)
class _Ticket:
    number: int
    pages: list[int]
    blocks: list[int]
    since_ns: int
    arrived: bytearray
    num_left: int
    fetched: list[int] = field(default_factory=list)  # positions that came from the file and are to be loaded
    cancelled: set[int] = field(default_factory=set)  # positions that nobody wanted before they were read


class _Copy(NamedTuple):
    route: Route
    ticket: _Ticket
    positions: list[int]
    since_ns: int
    began_ns: int


class PageIns:
    """What was asked for, in order, and the copies that this takes.

    Args:
        table: the pages.
        mover: copies them.
        max_in_flight: reads of the file that are under way at once; the rest waits here.
    """

    def __init__(
        self, table: PageTable, mover: Mover, *, max_in_flight: int, clock: Clock, events: EventStream
    ) -> None:
        self._table = table
        self._mover = mover
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._events = events
        self._num_tickets = 0
        self._to_fetch: deque[tuple[_Ticket, int]] = deque()
        self._to_load: list[_Ticket] = []
        self._copies: dict[int, _Copy] = {}  # by operation
        self._unwanted: dict[int, tuple[int, int]] = {}  # reads for nobody: slot and place by operation
        self._ended: list[_Ticket] = []
        self._is_throttled = False
        self.num_fetching = 0
        self.num_left = 0  # pages whose end was not reported

    @property
    def num_to_fetch(self) -> int:
        """Pages that wait to be read from the file."""
        return len(self._to_fetch)

    @property
    def num_loading(self) -> int:
        """Pages that are on the host, and on their way to the device, or there."""
        return self.num_left - len(self._to_fetch) - (self.num_fetching - len(self._unwanted))

    def longest_read_ns(self) -> int:
        """For how long the read that was begun first of those under way has been so; 0 if none is."""
        began = [copy.began_ns for copy in self._copies.values() if copy.route == "fetch"]
        return self._clock.now_ns() - min(began) if began else 0

    def start(self, pages: list[int], blocks: list[int]) -> int:
        """Bring pages, which are `RISING`, into blocks; returns the number of what was asked."""
        self._num_tickets += 1
        ticket = _Ticket(
            self._num_tickets, pages, blocks, self._clock.now_ns(), bytearray(len(pages)), len(pages)
        )
        self.num_left += len(pages)
        here = [i for i, page in enumerate(pages) if self._table.slot[page] >= 0]
        if here:
            self._load(ticket, here)
        if len(here) < len(pages):
            self._to_fetch.extend((ticket, i) for i, page in enumerate(pages) if self._table.slot[page] < 0)
        return ticket.number

    def cancel(self, pages: set[int]) -> list[int]:
        """Take back those of these pages that have not come from the file; returns them.

        What is being read is so to its end, into a slot that is no page's then. So a disk that does not
        answer keeps no block of the device.
        """
        cancelled = []
        left: deque[tuple[_Ticket, int]] = deque()
        for ticket, position in self._to_fetch:
            if ticket.pages[position] in pages:
                cancelled.append(self._take_back(ticket, position))
            else:
                left.append((ticket, position))
        self._to_fetch = left
        for operation, copy in self._copies.items():
            page = copy.ticket.pages[copy.positions[0]]
            if copy.route == "fetch" and page in pages and operation not in self._unwanted:
                self._unwanted[operation] = self._table.lend(page)
                cancelled.append(self._take_back(copy.ticket, copy.positions[0]))
        return cancelled

    def advance(self) -> None:
        """Load what has come from the file, and read on."""
        for ticket in self._to_load:
            positions, ticket.fetched = ticket.fetched, []
            self._load(ticket, positions)
        self._to_load.clear()
        table = self._table
        while self._to_fetch and self.num_fetching < self._max_in_flight and table.spare_slots:
            ticket, position = self._to_fetch.popleft()
            page = ticket.pages[position]
            if table.state[page] == State.LEAVING:
                self._end_page(ticket, position, False)
                continue
            operation = self._mover.fetch(table.place[page], table.give_slot(page))
            began_ns = self._clock.now_ns()
            self._copies[operation] = _Copy("fetch", ticket, [position], ticket.since_ns, began_ns)
            self.num_fetching += 1
        self._throttle()

    def ended(self, operation: int, error: OffloadError | None) -> bool:
        """A copy has ended; returns whether it was one of this."""
        copy = self._copies.pop(operation, None)
        if copy is None:
            return False
        route, ticket, positions, since_ns, _ = copy
        if route == "fetch":
            self.num_fetching -= 1
            if (lent := self._unwanted.pop(operation, None)) is not None:
                self._table.take_back(*lent)
            else:
                self._fetched(ticket, positions[0], error is None)
        else:
            for position in positions:
                self._end_page(ticket, position, error is None)
        if (emit := self._events.emit) is not None:
            num_bytes = len(positions) * self._mover.page_bytes
            emit(
                PagesMoved(
                    route,
                    len(positions),
                    num_bytes,
                    duration_ns=self._clock.now_ns() - since_ns,
                    error="" if error is None else str(error),
                    copy_ns=num_bytes * _NS_PER_S // self._mover.bandwidth[route],
                )
            )
        return True

    def take_ended(self, first_page: int) -> list[PagedIn]:
        """What has ended and was not reported yet."""
        ended, self._ended = self._ended, []
        return [self._report(ticket, first_page) for ticket in ended]

    # ---- how

    def _report(self, ticket: _Ticket, first_page: int) -> PagedIn:
        positions = [i for i in range(len(ticket.pages)) if i not in ticket.cancelled]
        self.num_left -= len(positions)
        num_failed = 0
        for position in positions:
            page = ticket.pages[position]
            if self._table.state[page] == State.LEAVING:
                ticket.arrived[position] = False
            else:
                num_failed += not ticket.arrived[position]
            self._table.end(page)
        if num_failed and (emit := self._events.emit) is not None:
            emit(PagesDropped(num_failed, "error"))
        return PagedIn(
            ticket.number,
            np.array(ticket.pages, np.int64)[positions] + first_page,
            np.array(ticket.blocks, np.int64)[positions],
            np.frombuffer(ticket.arrived, np.bool_)[positions],
        )

    def _load(self, ticket: _Ticket, positions: list[int]) -> None:
        slots = np.array([self._table.slot[ticket.pages[i]] for i in positions], np.int64)
        operation = self._mover.load(slots, np.array([ticket.blocks[i] for i in positions], np.int64))
        now_ns = self._clock.now_ns()
        self._copies[operation] = _Copy("page_in", ticket, positions, now_ns, now_ns)

    def _take_back(self, ticket: _Ticket, position: int) -> int:
        page = ticket.pages[position]
        ticket.cancelled.add(position)
        self.num_left -= 1
        self._count_down(ticket)
        self._table.end(page)
        return page

    def _fetched(self, ticket: _Ticket, position: int, came: bool) -> None:
        if not came or self._table.state[ticket.pages[position]] == State.LEAVING:
            self._end_page(ticket, position, False)
            return
        if not ticket.fetched:
            self._to_load.append(ticket)
        ticket.fetched.append(position)

    def _end_page(self, ticket: _Ticket, position: int, came: bool) -> None:
        """A page has ended its way: others can have its slot, but its number only when that was reported."""
        ticket.arrived[position] = came
        self._table.drop_memory(ticket.pages[position])
        self._count_down(ticket)

    def _count_down(self, ticket: _Ticket) -> None:
        ticket.num_left -= 1
        if not ticket.num_left:
            self._ended.append(ticket)

    def _throttle(self) -> None:
        """Say once that reads wait, until none does."""
        if not self._to_fetch:
            self._is_throttled = False
        elif not self._is_throttled and self.num_fetching >= self._max_in_flight:
            self._is_throttled = True
            if (emit := self._events.emit) is not None:
                emit(OffloadThrottled("fetch", self.num_fetching))
