"""Slots, places and states of single pages."""

from pagedkv.offload.page_table import PageTable, State


def test_what_arrived_while_it_was_written_gives_its_memory_back_then() -> None:
    """The copy to the device ended first, others of the same ticket wait for a slot, and none came free."""
    table = PageTable(num_slots=1, num_places=1)
    page = table.take(0)
    assert page is not None
    table.give_slot(page)
    table.give_place(page)
    table.move(page, State.WRITING)
    table.begin(page)
    table.move(page, State.RISING)
    table.begin(page)
    table.drop_memory(page)  # it is on the device
    assert not table.spare_slots
    assert not table.spare_places
    table.written(page)  # it is in the file, which nobody needs any more
    assert len(table.spare_slots) == len(table.spare_places) == 1
    table.end(page)
    table.forget(page)
    table.check_integrity()
