"""Our own tiers with one fault each."""

import time
from contextlib import suppress
from typing import Any

from pagedkv.offload.mover import Moved
from pagedkv.offload.page_table import State
from pytest_pagedkv.adapters.pagedkv_offload import AmpleHostAdapter, PagedKVOffloadAdapter
from tests.conformance.offload.faults import RANDOM, Impatient
from tests.conformance.planting import Faults

FAULTS = Faults(Impatient)
planted = FAULTS.planted
LATE_S = 0.02
BYTES = "bytes-equal or no-early-free or late-write or survives"
"""Bytes that are wrong or lost; where threads race, they decide which is seen first."""


class Planted(PagedKVOffloadAdapter):
    """Tiers of which methods are replaced, one by one."""

    timeout_s = 1.0

    def __init__(self, *made_with: Any) -> None:
        super().__init__(*made_with)
        self.table, self.mover = self._tiers._table, self._tiers._mover
        self.copier, self.file, self.io = self.mover._copier, self.mover._file, self.mover._io
        self.plant()

    def plant(self) -> None:
        """Replace what this fault gets wrong."""


class PlantedInAmple(Planted, AmpleHostAdapter):
    """The same where the host keeps all pages."""


# ---- bytes


@planted("bytes-equal", "test_fault", fault="FLIPPED_BIT")
class ComparesNoChecksums(Planted):
    """Takes what the file has."""

    def plant(self):
        self.file._checksum = lambda page: 0


@planted("bytes-equal", "test_fault", fault="SHORT_READ")
class TakesWhatWasRead(Planted):
    """A read that ends early is taken for a whole one."""

    def plant(self):
        self.file._checksum = lambda page: 0
        move = self.file._move

        def moves(*call: Any) -> int:
            with suppress(OSError):
                move(*call)
            return self.file._stride

        self.file._move = moves


@planted(BYTES, RANDOM)
class ReadsTheFirstPlace(Planted):
    """The file is read at one place, whichever was asked for."""

    def plant(self):
        self.file._checksum = lambda page: 0
        self.file._checksums = Equal()
        read = self.file.read
        self.file.read = lambda place, page: read(0, page)


class Equal(dict[int, int]):
    """Checksums that are always there, and zero."""

    def __contains__(self, place: object) -> bool:
        return True

    def __missing__(self, place: int) -> int:
        return 0


@planted("bytes-equal", RANDOM)
class LoadsAnotherSlot(PlantedInAmple):
    """Blocks get what is in the next slot."""

    def plant(self):
        load = self.copier.load
        self.copier.load = lambda number, slots, blocks: load(
            number, (slots + 1) % self.mover.num_slots, blocks
        )


@planted(BYTES, RANDOM)
class FreesSlotsThatAreRead(Planted):
    """A page gives its slot and its place away when it is asked for."""

    def plant(self):
        load = self._tiers._page_ins._load

        def loads(ticket: Any, positions: list[int]) -> None:
            for position in positions:
                self.table.drop_slot(ticket.pages[position])
                self.table.slot[ticket.pages[position]] = self.table.spare_slots[0]
            load(ticket, positions)

        self._tiers._page_ins._load = loads


# ---- who reads and writes which block


class Late(PlantedInAmple):
    """What is not told is operation -1."""

    def plant(self):
        add = self.mover._ended.add
        self.mover._ended.add = lambda moved: moved.operation < 0 or add(moved)

    def later(self, job: Any) -> None:
        """Do something when calls have returned."""
        self.io.submit(-1, lambda: (time.sleep(LATE_S), job()), is_read=True)


@planted(BYTES, RANDOM)
class StoresLater(Late):
    """Blocks are copied by a thread, when they may have been overwritten."""

    def plant(self):
        super().plant()
        store = self.copier.store
        self.copier.store = lambda blocks, slots: self.later(lambda: store(blocks.copy(), slots.copy()))


@planted(BYTES, RANDOM)
class GoesOnLoading(Late):
    """A load that has ended writes its block once more."""

    def plant(self):
        super().plant()
        load = self.copier.load

        def loads(number: int, slots: Any, blocks: Any) -> None:
            load(number, slots, blocks)
            self.later(lambda: load(-1, slots, blocks))

        self.copier.load = loads


# ---- what is kept


@planted(BYTES, RANDOM)
class TellsOfWritesTooEarly(Planted):
    """A page is taken to be in the file when writing it has begun, and its slot is used again."""

    def plant(self):
        spill, take = self.mover.spill, self.mover._ended.take
        told, silent = [], set()

        def spills(slot: int, place: int) -> int:
            self.io.submit(-1, lambda: time.sleep(LATE_S), is_read=False)
            operation = spill(slot, place)
            told.append(Moved(operation))
            silent.update((operation, -1))
            return operation

        def takes() -> Any:
            early, told[:] = list(told), []
            return [*early, *(moved for moved in take() if moved.operation not in silent)]

        self.mover.spill, self.mover._ended.take = spills, takes


@planted("no-hang", RANDOM)
class LosesACompletion(PlantedInAmple):
    """Every third copy ends without a word."""

    def plant(self):
        take = self.mover._ended.take
        self.mover._ended.take = lambda: tuple(moved for moved in take() if moved.operation % 3)


@planted("no-hang", RANDOM)
class NeverFreesSlots(Planted):
    """Slots that had a page once have it for ever."""

    def plant(self):
        self.table.drop_slot = lambda page: self.table.slot.__setitem__(page, -1)


@planted("documented-errors", RANDOM)
class NeverFreesPlaces(Planted):
    """Places that had a page once have it for ever."""

    def plant(self):
        self.table.drop_place = lambda page: self.table.place.__setitem__(page, -1)


@planted("documented-errors", RANDOM)
class ReportsTwice(PlantedInAmple):
    """Copies are told of with this poll and with the next one."""

    def plant(self):
        poll, told = self.mover.poll, []

        def polls() -> Any:
            again, told[:] = list(told), poll()
            return [*again, *told]

        self.mover.poll = polls


@planted("survives", RANDOM)
class LosesColdPages(Planted):
    """A page that gives its slot away is not in the file either."""

    def plant(self):
        move = self.table.move

        def moves(page: int, state: State) -> None:
            move(page, state)
            if state == State.FILED:
                self.file._checksums.pop(self.table.place[page], None)

        self.table.move = moves
