"""What is known of each page: where it is, what is done with it, and which slots and places nobody has."""

from array import array
from collections import Counter
from collections.abc import Collection
from enum import IntEnum

from pagedkv.errors import InvariantError

__all__ = ["PageTable", "State"]


class State(IntEnum):
    """What a page is doing. From `HOT` to `STUCK` it is on the host, and has its slot to itself."""

    UNUSED = 0
    HOT = 1  # on the host alone
    WAITING = 2  # likewise; will be written to the file
    WRITING = 3  # likewise; is being written
    CLEAN = 4  # on the host and in the file
    STUCK = 5  # on the host alone: writing it failed
    FILED = 6  # in the file alone
    RISING = 7  # asked for: on its way to the device, or there
    GONE = 8  # has neither slot nor place; its number is not free before it is forgotten
    LEAVING = 9  # forgotten, but a copy still uses what it has


_ON_HOST = tuple(int(State.HOT <= state <= State.STUCK) for state in State)


class PageTable:
    """Pages by number, from 0, with the slots of host memory and the places of the file that they have.

    Args:
        num_slots: slots of host memory.
        num_places: places of the file.

    Attributes:
        state: of each page.
        slot: of each page; -1 for none.
        place: of each page; -1 for none. While it is being written, the place holds nothing yet.
        key: number of its content.
        demoted_at: how many pages had been demoted before it.
        busy: copies that use its slot or place, or wait to.
        num_in: pages in each state.
        num_on_host: pages on the host that are not asked for.
        lent_slots: slots of no page, that copies still write which nobody wants any more.
    """

    def __init__(self, num_slots: int, num_places: int) -> None:
        # While pages that gave way are not forgotten, others may have their slots.
        self.num_pages = 2 * num_slots + num_places
        self.num_slots = num_slots
        self.num_places = num_places
        self.state = bytearray(self.num_pages)
        self.slot = array("q", [-1]) * self.num_pages
        self.place = array("q", [-1]) * self.num_pages
        self.key = array("q", [0]) * self.num_pages
        self.demoted_at = array("q", [0]) * self.num_pages
        self.busy = bytearray(self.num_pages)
        self._is_spent = bytearray(self.num_pages)  # has no use for what a copy still uses
        self.num_in = [self.num_pages] + [0] * (len(State) - 1)
        self.num_on_host = 0
        self.lent_slots: list[int] = []
        self._num_reads: Counter[int] = Counter()  # by place: such copies that read it
        self._lent_places: list[int] = []  # places of no page that they read
        self.spare_slots = list(range(num_slots - 1, -1, -1))
        self.spare_places = list(range(num_places - 1, -1, -1))
        self._spare_pages = list(range(self.num_pages - 1, -1, -1))

    def take(self, key: int) -> int | None:
        """A page that is not used, now `HOT`; None if there is none."""
        if not self._spare_pages:
            return None
        page = self._spare_pages.pop()
        self.key[page] = key
        self.move(page, State.HOT)
        return page

    def move(self, page: int, state: State) -> None:
        """Put a page into another state."""
        was = self.state[page]
        self.num_in[was] -= 1
        self.num_in[state] += 1
        self.num_on_host += _ON_HOST[state] - _ON_HOST[was]
        self.state[page] = state

    def give_slot(self, page: int) -> int:
        """Give a page a slot that nobody has."""
        slot = self.slot[page] = self.spare_slots.pop()
        return slot

    def give_place(self, page: int) -> int:
        """Give a page a place that nobody has."""
        place = self.place[page] = self.spare_places.pop()
        return place

    def drop_slot(self, page: int) -> None:
        """Take a page's slot back, if it has one."""
        if self.slot[page] >= 0:
            self.spare_slots.append(self.slot[page])
            self.slot[page] = -1

    def lend(self, page: int) -> tuple[int, int]:
        """A page does not want what a copy reads from its place; returns the slot, and the place.

        The slot is no page's until the copy has ended, and neither is the place if the page lets it go.
        """
        slot, place = self.slot[page], self.place[page]
        self.slot[page] = -1
        self.lent_slots.append(slot)
        self._num_reads[place] += 1
        return slot, place

    def take_back(self, slot: int, place: int) -> None:
        """A copy has ended that nobody wanted."""
        self.lent_slots.remove(slot)
        self.spare_slots.append(slot)
        self._num_reads[place] -= 1
        if not self._num_reads[place]:
            del self._num_reads[place]
            if place in self._lent_places:
                self._lent_places.remove(place)
                self.spare_places.append(place)

    def drop_place(self, page: int) -> None:
        """Take a page's place back, if it has one."""
        if self.place[page] >= 0:
            is_read = self.place[page] in self._num_reads
            (self._lent_places if is_read else self.spare_places).append(self.place[page])
            self.place[page] = -1

    def begin(self, page: int) -> None:
        """A copy uses the page from now on."""
        self.busy[page] += 1

    def end(self, page: int) -> None:
        """A copy has ended; if it was the last one of a page that was forgotten, all it had is free."""
        self.busy[page] -= 1
        if not self.busy[page] and self.state[page] == State.LEAVING:
            self._free(page)

    def written(self, page: int) -> None:
        """The copy to its place has ended, whether or not it succeeded."""
        self.end(page)
        if self._is_spent[page]:
            self.drop_slot(page)
            self.drop_place(page)

    def drop_memory(self, page: int) -> None:
        """Take slot and place back, when no other copy uses them than the one that has just ended."""
        self._is_spent[page] = self.busy[page] > 1
        if not self._is_spent[page]:
            self.drop_slot(page)
            self.drop_place(page)

    def vacate(self, page: int) -> None:
        """Take back all that a page has but its number."""
        self.drop_memory(page)
        self.move(page, State.GONE)

    def forget(self, page: int) -> None:
        """Take everything back, at once or when the last copy has ended."""
        self.move(page, State.LEAVING)
        if not self.busy[page]:
            self._free(page)

    def check_integrity(self) -> None:
        """Check that each slot, place and number is free or of exactly one page, and that states fit.

        Raises:
            InvariantError: with what was expected and what was found.
        """
        used = [page for page in range(self.num_pages) if self.state[page]]
        for what, spare, had, size in (
            ("slot", self.spare_slots + self.lent_slots, self.slot, self.num_slots),
            ("place", self.spare_places + self._lent_places, self.place, self.num_places),
        ):
            known = sorted(spare + [number for number in had if number >= 0])
            if known != list(range(size)):
                raise InvariantError(f"of {size} {what}s, those free or of a page are {known}")
        if sorted(self._spare_pages + used) != list(range(self.num_pages)):
            raise InvariantError(
                f"{len(used)} pages used, {len(self._spare_pages)} not: {self.num_pages} in all"
            )
        for page in range(self.num_pages):
            self._check_page(page, State(self.state[page]))
        if self.num_in != [self.state.count(state) for state in State]:
            raise InvariantError(f"pages by state are miscounted: {self.num_in}")
        if self.num_on_host != sum(self.num_in[State.HOT : State.STUCK + 1]):
            raise InvariantError(f"{self.num_on_host} pages on the host are counted; by state: {self.num_in}")

    def check_members(self, state: State, pages: Collection[int]) -> None:
        """Check that these are the pages in a state.

        Raises:
            InvariantError: they are not.
        """
        if sorted(pages) != [page for page in range(self.num_pages) if self.state[page] == state]:
            raise InvariantError(f"{len(pages)} pages are queued as {state.name}, {self.num_in[state]} are")

    # ---- how

    def _free(self, page: int) -> None:
        self.drop_slot(page)
        self.drop_place(page)
        self._is_spent[page] = False
        self.move(page, State.UNUSED)
        self._spare_pages.append(page)

    def _check_page(self, page: int, state: State) -> None:
        slot, place, busy = self.slot[page] >= 0, self.place[page] >= 0, self.busy[page] > 0
        sound = {
            State.UNUSED: not (slot or place or busy),
            State.HOT: slot and not place and not busy,
            State.WAITING: slot and not place and not busy,
            State.WRITING: slot and place and busy,
            State.CLEAN: slot and place and not busy,
            State.STUCK: slot and not place and not busy,
            State.FILED: place and not slot and not busy,
            State.RISING: busy or not place,  # what has come needs nothing any more
            State.GONE: not (slot or place or busy),
            State.LEAVING: busy,
        }[state]
        if not sound:
            raise InvariantError(
                f"page {page} is {state.name}, with slot {self.slot[page]}, place {self.place[page]}, "
                f"used by {self.busy[page]} copies"
            )
