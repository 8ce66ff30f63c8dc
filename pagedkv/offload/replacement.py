"""Which page gives way: the least recently used, the first that came, or what ARC says.

A tier below the device is exclusive: content that goes up leaves it, and comes back when the device evicts
it. So a page is admitted when its block is evicted, and why it leaves tells whether anybody wanted it.
"""

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import Protocol

from pagedkv.config import EvictionPolicy

__all__ = ["ARC", "FIFO", "LRU", "Replacement", "replacement"]

_SLACK = 64  # stale entries that a heap may always have


class Replacement(Protocol):
    """An order in which pages give way. A call takes constant time, or logarithmic where it says so."""

    def __len__(self) -> int:
        """Pages in it."""

    def __contains__(self, page: int) -> bool:
        """Whether the page is in it."""

    def admit(self, page: int, key: int) -> None:
        """Add a page that is not in it, with the number of its content."""

    def touch(self, page: int) -> None:
        """A page in it was used, and stays."""

    def remove(self, page: int, *, wanted: bool) -> None:
        """Take a page out; `wanted` says that its content goes up to the device, and is not forgotten."""

    def evict(self) -> int | None:
        """Take out the page that gives way first, and return it; None if there is none."""


class LRU:
    """Those that were admitted or touched longest ago give way first.

    Behind a device that evicts the least recently used of its G blocks, a tier of H pages of this kind has
    exactly the hits of one least-recently-used cache of G + H.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        """Pages in it."""
        return len(self._pages)

    def __contains__(self, page: int) -> bool:
        """Whether the page is in it."""
        return page in self._pages

    def admit(self, page: int, key: int) -> None:  # noqa: ARG002 - the protocol's; content does not matter
        """Add a page."""
        self._pages[page] = None

    def touch(self, page: int) -> None:
        """A page in it was used, and stays."""
        self._pages.move_to_end(page)

    def remove(self, page: int, *, wanted: bool) -> None:  # noqa: ARG002 - the protocol's
        """Take a page out."""
        del self._pages[page]

    def evict(self) -> int | None:
        """Take out the page that gives way first, and return it; None if there is none."""
        return self._pages.popitem(last=False)[0] if self._pages else None


class FIFO:
    """Content that came first gives way first, however often it was wanted since.

    Content that goes up and comes back keeps its place in the order, as long as its number is remembered.
    Adding a page takes logarithmic time.

    Args:
        num_away: how much of what went up is remembered.
    """

    def __init__(self, num_away: int) -> None:
        self._away = _Memory(num_away)
        self._num_arrivals = 0
        self._arrival: dict[int, tuple[int, int]] = {}  # by page: when its content came first, and its key
        self._heap: list[tuple[int, int]] = []  # (arrival, page), those of removed pages too

    def __len__(self) -> int:
        """Pages in it."""
        return len(self._arrival)

    def __contains__(self, page: int) -> bool:
        """Whether the page is in it."""
        return page in self._arrival

    def admit(self, page: int, key: int) -> None:
        """Add a page, at its content's old place if that is remembered."""
        self._num_arrivals += 1
        arrival = self._away.take(key)
        if arrival is None:
            arrival = self._num_arrivals
        self._arrival[page] = (arrival, key)
        heappush(self._heap, (arrival, page))
        if len(self._heap) > 2 * len(self._arrival) + _SLACK:
            self._heap = [(arrival, page) for page, (arrival, _) in self._arrival.items()]
            heapify(self._heap)

    def touch(self, page: int) -> None:
        """A page in it was used, which changes nothing."""

    def remove(self, page: int, *, wanted: bool) -> None:
        """Take a page out."""
        arrival, key = self._arrival.pop(page)
        if wanted:
            self._away.put(key, arrival)

    def evict(self) -> int | None:
        """Take out the page that gives way first, and return it; None if there is none."""
        while self._heap:
            arrival, page = heappop(self._heap)
            if self._arrival.get(page, (0, 0))[0] == arrival:
                del self._arrival[page]
                return page
        return None


class ARC:
    """Adaptive replacement: content that came once and content that came again compete for the room.

    Pages of the first kind are in `T1`, those of the second in `T2`, each least recent first. What gave way
    is remembered by the number of its content in `B1` and `B2`; when it comes again, the side that gave it up
    too early gets more room. In the paper a hit moves a page to T2. Here a hit takes it up to the device;
    when the same content is evicted from there, it has been seen twice, and enters T2.

    Source: Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003, figure 4.

    Args:
        num_slots: pages that it is to hold.
        num_away: how much of what went up is remembered.
    """

    def __init__(self, num_slots: int, num_away: int) -> None:
        self._size = num_slots
        self._target = 0.0  # of T1
        self._once: OrderedDict[int, int] = OrderedDict()  # T1: page -> key
        self._again: OrderedDict[int, int] = OrderedDict()  # T2
        self._once_ghosts: OrderedDict[int, None] = OrderedDict()  # B1: key
        self._again_ghosts: OrderedDict[int, None] = OrderedDict()  # B2
        self._away = _Memory(num_away)
        self._newest: tuple[int, bool] = (-1, False)  # page admitted last, and whether B2 knew its content

    def __len__(self) -> int:
        """Pages in it."""
        return len(self._once) + len(self._again)

    def __contains__(self, page: int) -> bool:
        """Whether the page is in it."""
        return page in self._once or page in self._again

    def admit(self, page: int, key: int) -> None:
        """Add a page; what is known of its content decides where, and what it says about the room."""
        once, again = self._once_ghosts, self._again_ghosts
        from_again = key in again
        if key in once:
            self._target = min(float(self._size), self._target + max(1.0, len(again) / len(once)))
            del once[key]
            self._again[page] = key
        elif from_again:
            self._target = max(0.0, self._target - max(1.0, len(once) / len(again)))
            del again[key]
            self._again[page] = key
        elif self._away.take(key) is not None:
            self._again[page] = key
        else:
            self._once[page] = key
        self._newest = (page, from_again)
        self._trim()

    def touch(self, page: int) -> None:
        """A page in it was used, and stays: it was seen twice."""
        key = self._once.pop(page, None)
        if key is None:
            self._again.move_to_end(page)
        else:
            self._again[page] = key

    def remove(self, page: int, *, wanted: bool) -> None:
        """Take a page out."""
        side = self._once if page in self._once else self._again
        key = side.pop(page)
        if wanted:
            self._away.put(key, 0)

    def evict(self) -> int | None:
        """Take out the page that gives way first, and return it; None if there is none.

        The paper makes room before it adds a page, so the newest page does not count here.
        """
        newest, from_again = self._newest
        num_once = len(self._once) - (newest in self._once)
        num_again = len(self._again) - (newest in self._again)
        over = num_once > self._target or (from_again and num_once == self._target)
        if self._once and (over if num_once and num_again else not num_again):
            page, key = self._once.popitem(last=False)
            self._once_ghosts[key] = None
        elif self._again:
            page, key = self._again.popitem(last=False)
            self._again_ghosts[key] = None
        else:
            return None
        self._trim()
        return page

    def _trim(self) -> None:
        """Forget the oldest ghosts: T1 and B1 together are as many as slots, all four twice as many.

        The page for which another one is about to give way is not one too many.
        """
        while self._once_ghosts and len(self._once) + len(self._once_ghosts) > self._size:
            self._once_ghosts.popitem(last=False)
        num_ghosts = 2 * self._size - min(len(self), self._size)
        while self._again_ghosts and len(self._once_ghosts) + len(self._again_ghosts) > num_ghosts:
            self._again_ghosts.popitem(last=False)


class _Memory:
    """Numbers by key, of which the latest few are kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[int, int] = OrderedDict()

    def put(self, key: int, value: int) -> None:
        """Remember a number."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def take(self, key: int) -> int | None:
        """Give a number back, and forget it; None if it is not known."""
        return self._values.pop(key, None)


def replacement(policy: EvictionPolicy, num_slots: int, num_away: int) -> Replacement:
    """The order that a policy stands for.

    Args:
        policy: its name.
        num_slots: pages that the tier holds.
        num_away: content that can be above the tier and come back: the blocks of the device.
    """
    if policy == "arc":
        return ARC(num_slots, num_away)
    return FIFO(num_away) if policy == "fifo" else LRU()
