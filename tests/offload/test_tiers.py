"""Tiers below the device: what they keep, what gives way, and how pages come back."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.block_ids import Int64s
from pagedkv.clock import VirtualClock
from pagedkv.errors import CorruptPage, InvariantError, OffloadError
from pagedkv.events import Event, OffloadThrottled, PagesDropped, PagesMoved, PagesStored
from pagedkv.offload.page_table import State
from pagedkv.offload.tiers import PagedIn, PageTiers
from pagedkv.traces import read_trace
from tests.examples import examples
from tests.offload.fakes import FakeMover, SlowMover, tiers_over
from tests.replay.real_traces import real_trace


def ids(*numbers: int) -> Int64s:
    """Ids as a vector."""
    return np.array(numbers, np.int64)


def put(mover: FakeMover, tiers: PageTiers, **contents: int) -> list[int]:
    """Demote blocks with these contents, and forget what gave way; returns the pages."""
    mover.device |= {block: content for content, block in contents.items()}
    pages = tiers.demote(np.array(list(contents.values()), np.int64))
    tiers.forget(tiers.take_dropped())
    tiers.check_integrity()
    return pages.tolist()


def told(tiers: PageTiers) -> list[Event]:
    """What is told from now on."""
    events: list[Event] = []
    tiers._events.attach(events.append)
    return events


# ---- down


def test_content_is_on_the_host_before_its_block_is_overwritten() -> None:
    """`demote` copies in the order of the device, and says what it did."""
    mover = FakeMover(4)
    tiers = tiers_over(mover)
    events = told(tiers)
    pages = put(mover, tiers, a=3, b=5)
    assert len(set(pages)) == 2
    assert min(pages) >= tiers.first_page
    assert sorted(mover.host.values()) == ["a", "b"]
    assert events == [PagesStored(2, 0, 2, 2 * mover.page_bytes, copy_ns=2 * mover.page_bytes)]
    assert (tiers.num_host_pages, tiers.num_kept) == (2, 2)


def test_the_coldest_give_way_without_a_file() -> None:
    """A full host loses what was demoted first, and says so; ids are used again when they are forgotten."""
    mover = FakeMover(2)
    tiers = tiers_over(mover)
    first = put(mover, tiers, a=0, b=1)
    events = told(tiers)
    mover.device[2] = "c"
    pages = tiers.demote(ids(2))
    assert tiers.take_dropped().tolist() == [first[0]]
    assert pages[0] not in first
    assert PagesDropped(1, "room") in events
    assert sorted(mover.host.values()) == ["b", "c"]
    tiers.forget(ids(first[0]))
    tiers.check_integrity()


def test_more_than_fits_at_once_keeps_the_last() -> None:
    """Blocks that would give way within the same call are refused, and not copied."""
    mover = FakeMover(2)
    tiers = tiers_over(mover)
    pages = put(mover, tiers, a=0, b=1, c=2, d=3)
    assert pages[:2] == [-1, -1]
    assert min(pages[2:]) >= 0
    assert mover.num_stored == 2


def test_no_host_memory_keeps_nothing() -> None:
    """With no slot at all everything is refused, and nothing breaks."""
    mover = FakeMover(0)
    tiers = tiers_over(mover)
    assert put(mover, tiers, a=0) == [-1]
    assert tiers.num_kept == 0


def test_a_store_that_fails_refuses_all() -> None:
    """What may be garbage is not kept, and its slots are free again."""
    mover = FakeMover(4)
    tiers = tiers_over(mover)
    mover.refuses_stores = True
    events = told(tiers)
    assert put(mover, tiers, a=0, b=1) == [-1, -1]
    assert events == [PagesStored(0, 2, 0, 0)]
    assert tiers.num_host_pages == 0


# ---- up


def test_pages_of_the_host_come_in_one_copy() -> None:
    """One ticket is one load; when it has ended, forgetting the pages frees their slots."""
    mover = SlowMover(4)
    tiers = tiers_over(mover)
    pages = np.array(put(mover, tiers, a=0, b=1, c=2), np.int64)
    events = told(tiers)
    tiers.pin(pages)
    ticket = tiers.page_in(pages, ids(7, 8, 9))
    assert (len(mover.under_way), tiers.num_rising, tiers.num_host_pages) == (1, 3, 0)
    assert tiers.poll() == []
    mover.end_all()
    [ended] = tiers.poll()
    assert (ended.ticket, ended.arrived.tolist()) == (ticket, [True] * 3)
    assert [mover.device[block] for block in (7, 8, 9)] == ["a", "b", "c"]
    assert events == [PagesMoved("page_in", 3, 3 * mover.page_bytes, 0, copy_ns=3 * mover.page_bytes)]
    tiers.forget(pages, wanted=True)
    tiers.check_integrity()
    assert (tiers.num_kept, len(tiers._table.spare_slots)) == (0, 4)


def test_a_page_cannot_be_asked_for_twice() -> None:
    """Who waits for the same page has to wait for the same copy."""
    mover = SlowMover(4)
    tiers = tiers_over(mover)
    pages = np.array(put(mover, tiers, a=0), np.int64)
    tiers.pin(pages)
    with pytest.raises(InvariantError, match="RISING"):
        tiers.pin(pages)


def test_what_is_forgotten_on_its_way_does_not_arrive() -> None:
    """Its slot is free when the copy has ended, and its id when that was reported; not before."""
    mover = SlowMover(1)
    tiers = tiers_over(mover)
    pages = np.array(put(mover, tiers, a=0), np.int64)
    tiers.pin(pages)
    tiers.page_in(pages, ids(7))
    tiers.forget(pages)
    tiers.check_integrity()
    assert put(mover, tiers, b=1) == [-1]  # the slot is still read
    mover.end_all()
    assert [ended.arrived.tolist() for ended in tiers.poll()] == [[False]]
    assert put(mover, tiers, b=1)[0] >= 0


# ---- the file


def filed(num_slots: int = 6, num_places: int = 6, **config: object) -> tuple[SlowMover, PageTiers]:
    """Tiers with a file, of which a reserve of two slots is kept clean."""
    mover = SlowMover(num_slots, num_places)
    return mover, tiers_over(mover, num_staging=2, num_reserved=2, **config)


def test_pages_that_give_way_are_in_the_file() -> None:
    """The reserve is written before it is needed, and then gives its slots at once."""
    mover, tiers = filed()
    pages = put(mover, tiers, a=0, b=1, c=2)
    assert [copy.route for copy in mover.under_way] == ["spill"]
    mover.end_all()
    tiers.poll()
    put(mover, tiers, d=3)
    mover.end_all()
    tiers.poll()
    put(mover, tiers, e=4)
    assert (tiers.num_host_pages, tiers.num_file_pages) == (4, 1)
    assert mover.file[tiers._table.place[pages[0] - tiers.first_page]] == "a"
    assert tiers.location(np.array(pages)) == (2, 1)


def test_a_page_of_the_file_comes_through_a_slot_of_the_host() -> None:
    """First it is read, then loaded; both copies are told."""
    mover, tiers = filed()
    page = ids(put(mover, tiers, a=0, b=1, c=2)[0])
    for content, block in (("d", 3), ("e", 4), ("f", 5)):
        mover.end_all()
        tiers.poll()
        put(mover, tiers, **{content: block})
    mover.end_all()
    tiers.poll()
    assert tiers.location(page) == (0, 1)
    events = told(tiers)
    tiers.pin(page)
    tiers.page_in(page, ids(9))
    tiers.poll()
    assert [copy.route for copy in mover.under_way] == ["fetch"]
    mover.end_all()
    assert tiers.poll() == []
    assert [copy.route for copy in mover.under_way] == ["page_in"]
    mover.end_all()
    assert tiers.poll()[0].arrived.all()
    assert mover.device[9] == "a"
    assert [event.route for event in events if isinstance(event, PagesMoved)] == ["fetch", "page_in"]


@pytest.mark.parametrize("error", [OffloadError("EIO"), CorruptPage("flipped")])
def test_a_page_that_cannot_be_read_fails_alone(error: OffloadError) -> None:
    """The others of its ticket arrive."""
    mover, tiers = filed()
    pages = put(mover, tiers, a=0, b=1, c=2)
    for content, block in (("d", 3), ("e", 4)):
        mover.end_all()
        tiers.poll()
        put(mover, tiers, **{content: block})
    asked = ids(pages[0], pages[2])
    assert tiers.location(asked) == (1, 1)
    mover.end_all()
    tiers.pin(asked)
    tiers.page_in(asked, ids(8, 9))
    tiers.poll()
    for copy in list(mover.under_way):
        mover.end(copy, error if copy.route == "fetch" else None)
    [ended] = tiers.poll()
    assert ended.arrived.tolist() == [False, True]
    tiers.forget(asked)
    tiers.check_integrity()


def test_a_slot_is_not_used_again_while_it_is_written_to_the_file() -> None:
    """A page that goes up while it goes down keeps its slot until the slower copy has ended."""
    mover, tiers = filed()
    page = ids(put(mover, tiers, a=0, b=1, c=2)[0])
    [spill] = mover.under_way
    tiers.pin(page)
    tiers.page_in(page, ids(9))
    mover.end(mover.under_way[-1])
    [ended] = tiers.poll()
    tiers.forget(page, wanted=True)
    assert ended.arrived.all()
    assert len(tiers._table.spare_slots) == 3  # of six, two are of the others
    put(mover, tiers, d=3, e=4, f=5)
    mover.end(spill)
    tiers.poll()
    tiers.check_integrity()
    assert len(tiers._table.spare_slots) == 2


def test_evictions_ahead_of_the_writes_are_told_once() -> None:
    """A page that is not in the file when its slot is needed is lost; nothing waits for the file."""
    mover, tiers = filed()
    events = told(tiers)
    put(mover, tiers, a=0, b=1, c=2, d=3)
    put(mover, tiers, e=4)
    put(mover, tiers, f=5)
    assert [event for event in events if isinstance(event, OffloadThrottled)] == [
        OffloadThrottled("spill", 2)
    ]
    assert sum(event.num_pages for event in events if isinstance(event, PagesDropped)) == 2
    mover.end_all()
    tiers.poll()
    put(mover, tiers, g=6, h=7, i=8, j=9)
    assert len([event for event in events if isinstance(event, OffloadThrottled)]) == 2


def test_a_page_that_cannot_be_written_is_lost_last_of_the_reserve() -> None:
    """ENOSPC costs nothing but the place in the file; the write is not tried again and again."""
    mover, tiers = filed()
    put(mover, tiers, a=0, b=1, c=2)
    mover.end_all(OffloadError("ENOSPC"))
    tiers.poll()
    tiers.check_integrity()
    assert tiers.num_host_pages == 3
    assert tiers._table.num_in[State.STUCK] == 1
    mover.end_all(OffloadError("ENOSPC"))
    tiers.poll()
    pages = put(mover, tiers, d=3, e=4, f=5)
    assert min(pages) >= 0
    assert tiers.num_host_pages == 4


def filed_pages() -> tuple[SlowMover, PageTiers, list[int]]:
    """Sixteen pages, the first four of them in the file alone, and one read at a time."""
    mover, tiers = filed(num_slots=12, num_places=12, queue_depth=1)
    pages = []
    for i in range(16):
        pages += put(mover, tiers, **{f"x{i}": i})
        for _ in range(4):
            mover.end_all()
            tiers.poll()
    return mover, tiers, pages


def test_reads_are_bounded_and_the_rest_waits_in_order() -> None:
    """No more than `queue_depth` reads are under way; that others wait is told once."""
    mover, tiers, pages = filed_pages()
    asked = np.array(pages[:4])
    assert tiers.location(asked) == (0, 4)
    events = told(tiers)
    tiers.pin(asked)
    tiers.page_in(asked, ids(20, 21, 22, 23))
    for left in (3, 2, 1, 0):
        assert [copy.route for copy in mover.under_way].count("fetch") == 1
        assert (tiers.num_fetching, tiers.num_waiting_to_fetch) == (1, left)
        mover.end_all()
        tiers.poll()
    for _ in range(3):
        tiers.poll()
        mover.end_all()
    assert [mover.device[block] for block in (20, 21, 22, 23)] == ["x0", "x1", "x2", "x3"]
    assert [event for event in events if isinstance(event, OffloadThrottled)] == [
        OffloadThrottled("fetch", 1)
    ]


def test_reads_can_be_taken_back() -> None:
    """Their pages stay in the file, also the one that is being read; the ticket reports the others."""
    mover, tiers, pages = filed_pages()
    asked = np.array(pages[:4])
    tiers.pin(asked)
    tiers.page_in(asked, ids(20, 21, 22, 23))
    assert sorted(tiers.cancel(asked[:3]).tolist()) == pages[:3]
    tiers.check_integrity()
    assert tiers.location(asked) == (0, 4)
    ended: list[PagedIn] = []
    for _ in range(6):
        mover.end_all()
        ended += tiers.poll()
    [one] = ended
    assert (one.pages.tolist(), one.blocks.tolist()) == ([pages[3]], [23])
    assert one.arrived.all()
    tiers.pin(asked[1:3])
    tiers.page_in(asked[1:3], ids(24, 25))
    assert tiers.cancel(asked[2:3]).tolist() == pages[2:3]
    tiers.check_integrity()
    for _ in range(4):
        mover.end_all()
        tiers.poll()
    assert mover.device[24] == "x1"


def test_a_page_whose_read_nobody_wants_can_be_asked_for_again() -> None:
    """Two reads of its place are under way; what the first brings is for nobody."""
    mover, tiers, pages = filed_pages()
    tiers.pin(ids(pages[0]))
    tiers.page_in(ids(pages[0]), ids(20))
    tiers.cancel(ids(pages[0]))
    tiers.pin(ids(pages[0]))
    tiers.page_in(ids(pages[0]), ids(21))
    tiers.check_integrity()
    ended: list[PagedIn] = []
    for _ in range(6):
        mover.end_all()
        ended += tiers.poll()
        tiers.check_integrity()
    assert [one.blocks.tolist() for one in ended if len(one.pages)] == [[21]]
    assert mover.device[21] == "x0"
    assert 20 not in mover.device


def test_a_place_is_not_written_while_it_is_read_for_nobody() -> None:
    """Its page gives way meanwhile; the place is free when the read has ended."""
    mover, tiers, pages = filed_pages()
    tiers.pin(ids(pages[0]))
    tiers.page_in(ids(pages[0]), ids(20))
    [read] = [copy for copy in mover.under_way if copy.route == "fetch"]
    tiers.cancel(ids(pages[0]))
    tiers.forget(ids(pages[0]))
    tiers.check_integrity()
    for i in range(16, 40):
        put(mover, tiers, **{f"x{i}": i})
        for copy in [copy for copy in mover.under_way if copy is not read]:
            mover.end(copy)
        tiers.poll()
        tiers.check_integrity()
    mover.end(read)
    tiers.poll()
    tiers.check_integrity()
    assert tiers.num_fetching == 0


def test_a_disk_that_hangs_is_expected_to_go_on_doing_so() -> None:
    """A read has not come for a second, so the next is expected to take one, whatever was measured."""
    mover, tiers, pages = filed_pages()
    clock = tiers._clock
    assert isinstance(clock, VirtualClock)
    tiers.pin(ids(pages[0]))
    tiers.page_in(ids(pages[0]), ids(20))
    before = tiers.bandwidth_ns(ids(pages[1]))
    assert tiers.page_in_ns(ids(pages[1])) == before
    clock.advance(10**9)
    assert tiers.page_in_ns(ids(pages[1])) == 10**9
    assert tiers.bandwidth_ns(ids(pages[1])) == before
    mover.end_all()
    tiers.poll()
    assert tiers.page_in_ns(ids(pages[1])) < 10**9


def test_what_is_expected_comes_from_measured_bandwidths() -> None:
    """Reads and loads go on side by side, behind what was asked for before."""
    mover, tiers = filed()
    pages = put(mover, tiers, a=0, b=1, c=2)
    for content, block in (("d", 3), ("e", 4)):
        mover.end_all()
        tiers.poll()
        put(mover, tiers, **{content: block})
    assert tiers.page_in_ns(ids(pages[2])) == 1_000  # 1000 bytes at 1 GB/s
    assert tiers.page_in_ns(ids(pages[0], pages[2])) == 11_000  # the read, at 0.1 GB/s, and its load
    tiers.pin(ids(pages[0]))
    tiers.page_in(ids(pages[0]), ids(9))
    assert tiers.page_in_ns(ids(pages[2])) == 1_000
    assert tiers.num_again(ids(pages[2]), 3) == 1
    assert tiers.num_again(ids(pages[2]), 2) == 0


def test_closing_closes_the_mover() -> None:
    """There is nothing else to stop."""
    mover = FakeMover(1)
    tiers_over(mover).close()
    assert mover.is_closed


def test_a_mover_that_reports_what_nobody_began_is_found_out() -> None:
    """A copy that is reported twice would free what is in use."""
    mover = SlowMover(2)
    tiers = tiers_over(mover)
    pages = np.array(put(mover, tiers, a=0))
    tiers.pin(pages)
    tiers.page_in(pages, ids(7))
    mover.end_all()
    mover.done *= 2
    with pytest.raises(InvariantError, match="not begun"):
        tiers.poll()


# ---- exclusive, and exactly so


def num_hits(keys: list[int], num_blocks: int) -> int:
    """Hits of one least-recently-used cache."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in keys:
        hits += key in cache
        cache[key] = None
        cache.move_to_end(key)
        if len(cache) > num_blocks:
            cache.popitem(last=False)
    return hits


def num_hits_of_two(keys: list[int], num_blocks: int, num_slots: int) -> int:
    """Hits of a least-recently-used device and the tiers below it, which move every content for real."""
    mover = FakeMover(num_slots + 1)
    tiers = tiers_over(mover, num_staging=1)
    block_of: OrderedDict[int, int] = OrderedDict()
    page_of: dict[int, int] = {}
    key_of: dict[int, int] = {}
    spare = list(range(num_blocks))
    hits = 0
    for key in keys:
        if key in block_of:
            block_of.move_to_end(key)
            hits += 1
            continue
        page = page_of.pop(key, None)
        if page is not None:
            tiers.pin(ids(page))
        if not spare:
            coldest, block = block_of.popitem(last=False)
            kept = int(tiers.demote(ids(block))[0])
            for gone in tiers.take_dropped().tolist():
                del page_of[key_of.pop(gone)]
                tiers.forget(ids(gone))
            if kept >= 0:
                page_of[coldest], key_of[kept] = kept, coldest
            spare.append(block)
        block = block_of[key] = spare.pop()
        if page is None:
            mover.device[block] = key
        else:
            tiers.page_in(ids(page), ids(block))
            [ended] = tiers.poll()
            assert ended.arrived.all()
            tiers.forget(ids(page), wanted=True)
            hits += 1
        assert mover.device[block] == key
    tiers.check_integrity()
    return hits


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.integers(0, 12), max_size=150),
    st.integers(1, 5),
    st.integers(0, 5),
)
def test_a_victim_tier_has_exactly_the_hits_of_one_larger_cache(
    keys: list[int], num_blocks: int, num_slots: int
) -> None:
    """H slots behind an LRU of G blocks hit what an LRU of G + H hits."""
    assert num_hits_of_two(keys, num_blocks, num_slots) == num_hits(keys, num_blocks + num_slots)


@pytest.mark.parametrize("num_slots", [50, 400])
def test_the_same_with_the_blocks_of_a_real_trace(num_slots: int) -> None:
    """As above, over the block ids of the conversations in a real trace."""
    trace = read_trace(real_trace("mooncake_arxiv_first1000.jsonl.gz"))
    keys = [key for request in trace.requests for key in request.block_ids or ()][:15_000]
    assert num_hits_of_two(keys, 200, num_slots) == num_hits(keys, 200 + num_slots) > num_hits(keys, 200)
