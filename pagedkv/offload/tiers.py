"""Pages below the device: what is kept on the host and in a file, what gives way, and what comes back.

No bytes are touched here, and nothing waits: a `Mover` copies, and `PageTiers` says from where to where.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.clock import Clock
from pagedkv.config import OffloadConfig
from pagedkv.errors import InvariantError, OffloadError
from pagedkv.events import EventStream, OffloadThrottled, PagesDropped, PagesStored
from pagedkv.offload.mover import Mover
from pagedkv.offload.page_ins import PagedIn, PageIns
from pagedkv.offload.page_table import PageTable, State
from pagedkv.offload.replacement import Replacement, replacement
from pagedkv.offload.write_behind import WriteBehind

__all__ = ["PageTiers", "PagedIn", "TiersFactory"]

_NS_PER_S = 1_000_000_000


class TiersFactory(Protocol):
    """Makes the tiers below a device: `functools.partial(PageTiers, mover, config, clock=clock)`."""

    def __call__(self, *, first_page: int, events: EventStream) -> "PageTiers":
        """The tiers whose first page has this id."""


class PageTiers:
    """Content of blocks that the device has evicted, as pages on the host and in a file.

    The tiers are exclusive: a page that is asked for leaves them when it has come. Of the mover's slots a few
    are kept apart for pages on their way up, so that the others hold what gives way in the policy's order, as
    if those had left already.

    Whoever uses this forgets every page that it is told of, in `take_dropped` or as a `PagedIn`, by `forget`;
    until then its id is not used for another one.

    Args:
        mover: copies pages.
        config: which policy, and how many reads and writes of the file are under way at once.
        first_page: id of the first page: the blocks of the device have those below.
        clock: tells how long copies took.
        events: stream that is told what happens.
        num_staging: slots kept apart for pages on their way up; by default `queue_depth`, and at most a
            quarter of all. With a file at least one.
        num_reserved: slots that are free, or whose pages are also in the file, so that evictions find room;
            by default a quarter of those that pages can have.

    Attributes:
        config: the settings.
        first_page: id of the first page.
        num_pages: page ids are first_page .. first_page + num_pages - 1; more than can be held at once.
        num_host_slots: pages that the host can hold, besides those on their way up.
        needs_keys: whether `demote` wants to know what content it gets.
    """

    def __init__(
        self,
        mover: Mover,
        config: OffloadConfig,
        *,
        first_page: int,
        clock: Clock,
        events: EventStream,
        num_staging: int | None = None,
        num_reserved: int | None = None,
    ) -> None:
        num_slots, num_places = mover.num_slots, mover.num_places
        if num_staging is None:
            num_staging = min(config.queue_depth, num_slots // 4)
        if num_places:  # what comes from the file comes through a slot that no page keeps
            num_staging = max(num_staging, min(num_slots, 1))
        self.config = config
        self._mover = mover
        self._clock = clock
        self._events = events
        self._table = table = PageTable(num_slots, num_places)
        self.first_page = first_page
        self.num_pages = table.num_pages
        self.num_host_slots = num_slots - num_staging
        self.needs_keys = config.policy != "lru"
        self._hot: Replacement = replacement(config.policy, self.num_host_slots, first_page)
        self._filed: Replacement = replacement(config.policy, num_places, first_page)
        self._page_ins = PageIns(table, mover, max_in_flight=config.queue_depth, clock=clock, events=events)
        self._write_behind = WriteBehind(
            table,
            mover,
            self._hot,
            self._filed,
            num_reserved=_num_reserved(self.num_host_slots, num_places, num_reserved),
            max_in_flight=config.queue_depth,
            clock=clock,
            events=events,
        )
        self._dropped: list[int] = []
        mover.tell(events)
        self._num_demoted = 0
        self._is_throttled = False

    # ---- down

    def demote(self, blocks: Int64s, keys: Int64s | None = None) -> Int64s:
        """Keep the content of blocks, coldest first, so that the blocks can be overwritten.

        Others may give way for it: look at `take_dropped`.

        Args:
            blocks: the blocks. Shape `[num_blocks]` (int64).
            keys: a number for the content of each: the same whenever it comes again. Only if `needs_keys`.

        Returns:
            The page that keeps each block, or -1. Shape `[num_blocks]` (int64).
        """
        pages = self._admit(blocks, keys)
        kept = pages >= 0
        stored = pages[kept]
        if len(stored):
            slots = np.array([self._table.slot[page] for page in stored.tolist()], np.int64)
            try:
                self._mover.store(blocks[kept], slots)
            except BaseException as error:
                for page in stored.tolist():
                    self._hot.remove(page, wanted=False)
                    self._table.forget(page)
                if not isinstance(error, OffloadError):  # an interrupt, say: nothing was kept
                    raise
                pages[:] = -1
                stored = stored[:0]
        if (emit := self._events.emit) is not None:
            num_bytes = len(stored) * self._mover.page_bytes
            copy_ns = num_bytes * _NS_PER_S // self._mover.bandwidth["page_out"]
            emit(PagesStored(len(stored), len(blocks) - len(stored), len(stored), num_bytes, copy_ns))
        self._advance()
        return np.where(pages >= 0, pages + self.first_page, -1)

    def take_dropped(self) -> Int64s:
        """Pages that gave way since the last call; they have no content any more. Shape `[n]` (int64)."""
        dropped, self._dropped = self._dropped, []
        return np.array(dropped, np.int64) + self.first_page

    def forget(self, pages: Int64s, *, wanted: bool = False) -> None:
        """Nobody knows these pages any more; what they have is free when no copy uses it.

        Args:
            pages: distinct pages.
            wanted: their content is on the device.
        """
        table = self._table
        num_untold = 0
        for page in (pages - self.first_page).tolist():
            was_told = table.state[page] == State.GONE or (
                table.state[page] == State.RISING and not table.busy[page]
            )
            num_untold += not was_told
            self._take_out(page, wanted)
            table.forget(page)
        if not wanted and num_untold and (emit := self._events.emit) is not None:
            emit(PagesDropped(num_untold, "forgotten"))

    # ---- up

    def pin(self, pages: Int64s) -> None:
        """These pages are about to be asked for: they do not give way any more.

        Raises:
            InvariantError: one of them is asked for already, or has no content.
        """
        numbers = (pages - self.first_page).tolist()
        for page in numbers:
            state = State(self._table.state[page])
            if state not in _HELD:
                raise InvariantError(
                    f"page {page + self.first_page} is {state.name}, so it cannot be asked for"
                )
        for page in numbers:
            self._take_out(page, True)
            self._table.move(page, State.RISING)
            self._table.begin(page)

    def unpin(self, pages: Int64s) -> None:
        """Pinned pages are not asked for after all; they are to be forgotten."""
        for page in (pages - self.first_page).tolist():
            self._table.end(page)

    def page_in(self, pages: Int64s, blocks: Int64s) -> int:
        """Start to copy pinned pages into blocks.

        The blocks belong to the copies until `poll` reports the ticket.

        Returns:
            The ticket.
        """
        ticket = self._page_ins.start((pages - self.first_page).tolist(), blocks.tolist())
        self._page_ins.advance()
        return ticket

    def cancel(self, pages: Int64s) -> Int64s:
        """Nobody waits for these pages any more: those that have not come from the file stay there.

        Returns:
            Those that do, or that were forgotten meanwhile; their blocks are free, and no ticket reports
            them. Shape `[n]` (int64).
        """
        cancelled = self._page_ins.cancel(set((pages - self.first_page).tolist()))
        for page in cancelled:
            if self._table.state[page] == State.RISING:
                self._table.move(page, State.FILED)
                self._filed.admit(page, self._table.key[page])
        return np.array(cancelled, np.int64) + self.first_page

    def poll(self) -> Sequence[PagedIn]:
        """Tickets that have ended since the last call; begins what waits."""
        self._advance()
        while self._collect():
            self._advance()
        return self._page_ins.take_ended(self.first_page)

    def wait(self, timeout_s: float) -> None:
        """Return when there is something to `poll`, or after so many seconds."""
        self._mover.wait(timeout_s)

    def next_ns(self) -> int | None:
        """When a copy ends next, where that is known."""
        return self._mover.next_ns()

    def now_ns(self) -> int:
        """The time now."""
        return self._clock.now_ns()

    def close(self) -> None:
        """Stop the mover."""
        self._mover.close()

    # ---- what is there

    @property
    def num_kept(self) -> int:
        """Pages that are known, those on their way up included."""
        num_in = self._table.num_in
        return sum(num_in[state] for state in _HELD) + num_in[State.RISING]

    @property
    def num_host_pages(self) -> int:
        """Pages on the host that are not on their way up."""
        return self._table.num_on_host

    @property
    def num_file_pages(self) -> int:
        """Pages in the file alone that are not on their way up."""
        return self._table.num_in[State.FILED]

    @property
    def num_ready(self) -> int:
        """Evicted blocks that would be kept now without a page being lost for them."""
        return self.num_free_slots + self._table.num_in[State.CLEAN]

    @property
    def num_free_slots(self) -> int:
        """Evicted blocks that would be kept now without a page leaving the host for them."""
        table = self._table
        return max(0, min(self.num_host_slots - table.num_on_host, len(table.spare_slots)))

    @property
    def num_rising(self) -> int:
        """Pages that were asked for, and of which `poll` has not reported that they have ended their way."""
        return self._page_ins.num_left

    @property
    def num_spilling(self) -> int:
        """Pages that are being written to the file."""
        return self._write_behind.num_in_flight

    @property
    def num_fetching(self) -> int:
        """Pages that are being read from the file."""
        return self._page_ins.num_fetching

    @property
    def num_waiting_to_fetch(self) -> int:
        """Pages that wait to be read from the file."""
        return self._page_ins.num_to_fetch

    def location(self, pages: Int64s) -> tuple[int, int]:
        """How many of these pages are on the host, and how many have to come from the file."""
        slots = self._table.slot
        num_host = sum(slots[page] >= 0 for page in (pages - self.first_page).tolist())
        return num_host, len(pages) - num_host

    def num_again(self, pages: Int64s, window: int) -> int:
        """How many of these pages were demoted less than `window` demotions ago."""
        limit, demoted_at = self._num_demoted - window, self._table.demoted_at
        return sum(demoted_at[page] > limit for page in (pages - self.first_page).tolist())

    def page_in_ns(self, pages: Int64s) -> int:
        """How long these pages are likely to take to come.

        By the measured bandwidths; but of a disk on which a read has hung for some time, at least as long.
        """
        measured_ns = self.bandwidth_ns(pages)
        return max(measured_ns, self._page_ins.longest_read_ns()) if self.location(pages)[1] else measured_ns

    def bandwidth_ns(self, pages: Int64s) -> int:
        """How long these pages take to come, by the measured bandwidths and what was asked for before them.

        Reading the file and copying to the device go on side by side.
        """
        num_host, num_file = self.location(pages)
        page_ns = self._mover.page_bytes * _NS_PER_S
        in_ns = page_ns / self._mover.bandwidth["page_in"]
        num_up = self._page_ins.num_left
        if not num_file:
            return int((self._page_ins.num_loading + num_host) * in_ns)
        num_fetches = self._page_ins.num_to_fetch + self._page_ins.num_fetching + num_file
        fetch_ns = num_fetches * page_ns / self._mover.bandwidth["fetch"] + in_ns
        return int(max(fetch_ns, (num_up + len(pages)) * in_ns))

    def check_integrity(self) -> None:
        """Check pages, slots, places and queues against each other. O(pages).

        Raises:
            InvariantError: with what was expected and what was found.
        """
        self._table.check_integrity()
        self._write_behind.check_integrity()
        pages = range(self.num_pages)
        self._table.check_members(State.HOT, [page for page in pages if page in self._hot])
        self._table.check_members(State.FILED, [page for page in pages if page in self._filed])
        if self._table.num_on_host > self.num_host_slots:
            raise InvariantError(
                f"{self._table.num_on_host} pages on the host, in {self.num_host_slots} slots"
            )

    # ---- how

    def _admit(self, blocks: Int64s, keys: Int64s | None) -> Int64s:
        """A page with a slot for each block, where there is room; numbers, not ids."""
        table, hot = self._table, self._hot
        pages = np.full(len(blocks), -1, np.int64)
        position: dict[int, int] = {}  # of the new pages, which have no content yet
        num_lost = len(self._dropped)
        for i, key in enumerate([0] * len(blocks) if keys is None else keys.tolist()):
            page = table.take(key)
            if page is None:
                break
            self._num_demoted += 1
            hot.admit(page, key)
            while table.num_on_host > self.num_host_slots or not table.spare_slots:
                if not self._give_way(page, position, pages):
                    break
            else:
                table.give_slot(page)
                table.demoted_at[page] = self._num_demoted
                position[page] = i
                pages[i] = page
                continue
            if page in hot:
                hot.remove(page, wanted=False)
            table.forget(page)
        self._tell_dropped(len(self._dropped) - num_lost)
        return pages

    def _give_way(self, newest: int, position: dict[int, int], pages: Int64s) -> bool:
        """Free a slot, or room for one; False if only the newest page could give way."""
        table, reserve = self._table, self._write_behind
        if reserve.num_in_flight:
            self._collect()
        page = reserve.take_clean()
        if page is not None:
            table.drop_slot(page)
            table.move(page, State.FILED)
            self._filed.admit(page, table.key[page])
            return True
        page = reserve.take_dirty()
        if page is None:
            page = self._hot.evict()
        if page is None or page == newest:
            return False
        if page in position:
            pages[position.pop(page)] = -1
            table.forget(page)
            return True
        if table.num_places:
            self._throttle()
        table.vacate(page)
        self._dropped.append(page)
        return True

    def _take_out(self, page: int, wanted: bool) -> None:
        """Take a page out of the order or queue that it is in."""
        state = self._table.state[page]
        if state == State.HOT:
            self._hot.remove(page, wanted=wanted)
        elif state == State.FILED:
            self._filed.remove(page, wanted=wanted)
        else:
            self._write_behind.remove(page)

    def _collect(self) -> bool:
        """Take note of copies that have ended; returns whether any has."""
        ended = self._mover.poll()
        for operation, error in ((moved.operation, moved.error) for moved in ended):
            if self._write_behind.ended(operation, error):
                self._is_throttled = self._is_throttled and error is not None
            elif not self._page_ins.ended(operation, error):
                raise InvariantError(f"the mover has ended copy {operation}, which was not begun")
        return bool(ended)

    def _advance(self) -> None:
        """Begin copies that may begin."""
        self._page_ins.advance()
        num_free = max(0, self.num_host_slots - self._table.num_on_host)
        num_lost = len(self._dropped)
        self._write_behind.advance(num_free, self._dropped)
        self._tell_dropped(len(self._dropped) - num_lost)

    def _tell_dropped(self, num_pages: int) -> None:
        if num_pages and (emit := self._events.emit) is not None:
            emit(PagesDropped(num_pages, "room"))

    def _throttle(self) -> None:
        """Say once that evictions are ahead of the writes, until one of those succeeds."""
        if not self._is_throttled:
            self._is_throttled = True
            if (emit := self._events.emit) is not None:
                emit(OffloadThrottled("spill", self._write_behind.num_in_flight))


def _num_reserved(num_host_slots: int, num_places: int, asked: int | None) -> int:
    """Slots in reserve: what was asked for or a quarter, but no more than the file has places."""
    if asked is None:
        asked = max(1, num_host_slots // 4)
    return min(asked, num_host_slots, num_places)


_HELD = (State.HOT, State.WAITING, State.WRITING, State.CLEAN, State.STUCK, State.FILED)
