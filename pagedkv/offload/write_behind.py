"""Write-behind: the pages that give way next are written to the file before their slots are needed."""

from collections import OrderedDict

from pagedkv.clock import Clock
from pagedkv.errors import OffloadError
from pagedkv.events import EventStream, PagesMoved
from pagedkv.offload.mover import Mover
from pagedkv.offload.page_table import PageTable, State
from pagedkv.offload.replacement import Replacement

__all__ = ["WriteBehind"]

_NS_PER_S = 1_000_000_000


class WriteBehind:
    """Keeps a reserve of pages on the host whose slots can be had at once, since they are also in the file.

    The policy has given up what is in the reserve; it goes to the file in that order. A page whose writing
    failed is not tried again: it is the first to be lost when there is nothing better to give up.

    Args:
        table: the pages.
        mover: writes them.
        hot: pages on the host that have not given way.
        filed: pages in the file alone.
        num_reserved: pages that are to be in reserve, slots that are free included; 0 without a file.
        max_in_flight: writes that are under way at once.
    """

    def __init__(
        self,
        table: PageTable,
        mover: Mover,
        hot: Replacement,
        filed: Replacement,
        *,
        num_reserved: int,
        max_in_flight: int,
        clock: Clock,
        events: EventStream,
    ) -> None:
        self._table = table
        self._mover = mover
        self._hot = hot
        self._filed = filed
        self._num_reserved = num_reserved
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._events = events
        self._waiting: OrderedDict[int, int] = OrderedDict()  # page -> since when
        self._clean: OrderedDict[int, None] = OrderedDict()
        self._stuck: OrderedDict[int, None] = OrderedDict()
        self._writes: dict[int, tuple[int, int]] = {}  # operation -> page, since when

    @property
    def num_in_flight(self) -> int:
        """Writes that are under way."""
        return len(self._writes)

    def take_clean(self) -> int | None:
        """The page that is in the file and gives its slot away first; None if there is none."""
        return self._clean.popitem(last=False)[0] if self._clean else None

    def take_dirty(self) -> int | None:
        """The page that is lost first, because it is not in the file; None if none waits to be written."""
        for queue in (self._stuck, self._waiting):
            if queue:
                return queue.popitem(last=False)[0]
        return None

    def remove(self, page: int) -> None:
        """A page in the reserve is asked for, or forgotten; one that is being written is so to its end."""
        for queue in (self._waiting, self._clean, self._stuck):
            if page in queue:
                del queue[page]

    def advance(self, num_free: int, lost: list[int]) -> None:
        """Choose pages for the reserve, and begin to write them.

        Args:
            num_free: slots that pages could have.
            lost: pages in the file that gave way are added to it.
        """
        table = self._table
        num_wanted = self._num_reserved - num_free - len(self._waiting) - len(self._clean)
        num_wanted -= table.num_in[State.WRITING]
        now = self._clock.now_ns()
        for _ in range(num_wanted):
            page = self._hot.evict()
            if page is None:
                break
            table.move(page, State.WAITING)
            self._waiting[page] = now
        while self._waiting and len(self._writes) < self._max_in_flight:
            if not table.spare_places and not self._make_place(lost):
                break
            page, since = self._waiting.popitem(last=False)
            table.move(page, State.WRITING)
            table.begin(page)
            operation = self._mover.spill(table.slot[page], table.give_place(page))
            self._writes[operation] = (page, since)

    def ended(self, operation: int, error: OffloadError | None) -> bool:
        """A copy has ended; returns whether it was a write of this."""
        if operation not in self._writes:
            return False
        table = self._table
        page, since = self._writes.pop(operation)
        if error is not None and table.state[page] != State.LEAVING:
            table.drop_place(page)
        if table.state[page] == State.WRITING:
            if error is None:
                table.move(page, State.CLEAN)
                self._clean[page] = None
            else:
                table.move(page, State.STUCK)
                self._stuck[page] = None
        table.written(page)
        if (emit := self._events.emit) is not None:
            num_bytes = self._mover.page_bytes
            emit(
                PagesMoved(
                    "spill",
                    1,
                    num_bytes,
                    duration_ns=self._clock.now_ns() - since,
                    error="" if error is None else str(error),
                    copy_ns=num_bytes * _NS_PER_S // self._mover.bandwidth["spill"],
                )
            )
        return True

    def check_integrity(self) -> None:
        """Check the queues against the table.

        Raises:
            InvariantError: they disagree.
        """
        self._table.check_members(State.WAITING, self._waiting)
        self._table.check_members(State.CLEAN, self._clean)
        self._table.check_members(State.STUCK, self._stuck)

    def _make_place(self, lost: list[int]) -> bool:
        """Let a page of the file give way; returns whether there was one."""
        page = self._filed.evict()
        if page is None:
            return False
        self._table.vacate(page)
        lost.append(page)
        return True
