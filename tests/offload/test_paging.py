"""The block manager with tiers below: what becomes of evicted blocks, and how prefixes come back."""

import numpy as np
import pytest

from pagedkv import BlockManager, CacheConfig
from pagedkv.block_ids import Int64s
from pagedkv.block_manager import PageIn
from pagedkv.clock import VirtualClock
from pagedkv.errors import ConfigError, CorruptPage, InvalidRequest, OffloadError, OutOfBlocks
from pagedkv.events import Event, PageInEnded, PageInStarted
from tests.block_manager.shadow import ShadowedCache
from tests.offload.fakes import FakeMover, SlowMover, cache_over

A, B, C = ([i] * 33 for i in (1, 2, 3))  # prompts of 8 full blocks and a token


def churn(cache: BlockManager, *prompts: list[int]) -> None:
    """Admit and release, so that what was there is evicted."""
    for prompt in prompts:
        cache.admit(10_000, prompt)
        cache.release(10_000)


def bring(cache: BlockManager, mover: SlowMover, prompt: list[int]) -> PageIn:
    """Page a prompt's prefix in, all of it."""
    page_in = cache.begin_page_in(cache.paged_prefix(prompt))
    for _ in range(9):
        mover.end_all()
        if page_in in cache.poll_page_ins():
            return page_in
    raise AssertionError("it never ended")


def test_what_is_evicted_is_found_in_the_tiers_and_comes_back() -> None:
    """An admission alone has no use for pages; after the page-in it hits all of the prefix."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9)
    churn(cache, A, B)
    assert cache.lookup(A) == 0
    prefix = cache.paged_prefix(A)
    assert (prefix.num_tokens, prefix.num_cached_tokens, prefix.num_paged) == (32, 0, 8)
    page_in = bring(cache, mover, A)
    assert (page_in.num_pages, page_in.num_failed, page_in.has_ended) == (8, 0, True)
    assert cache.lookup(A) == 32
    assert cache.paged_prefix(A).num_paged == 0
    assert cache.admit(1, A).num_cached_tokens == 32
    cache.end_page_in(page_in)
    cache.end_page_in(page_in)
    cache.check_integrity()
    assert cache.pool.num_free == 0


def test_the_pages_of_a_prefix_are_where_blocks_were_evicted_last_first() -> None:
    """Tails go first, so a prefix is blocks, then pages; all of it is known."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A, [7] * 9)
    prefix = cache.paged_prefix(A)
    assert prefix.num_cached_tokens == 24
    assert (prefix.ids < 9).tolist() == [True] * 6 + [False] * 2
    assert prefix.num_blocks_needed == 8


def test_cached_blocks_are_counted_without_pages() -> None:
    """What is below the device is not in the pool's cache."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A, B)
    assert cache.num_cached_blocks == 8
    assert cache.tiers is not None
    assert cache.tiers.num_kept == 8


def test_part_of_a_prefix_can_be_asked_for() -> None:
    """`max_pages` ends the prefix before it has more pages to ask for."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A, [7] * 9)
    prefix = cache.paged_prefix(A, max_pages=1)
    assert (prefix.num_tokens, len(prefix.pages), prefix.num_blocks_needed) == (28, 1, 7)
    assert cache.paged_prefix(A, max_pages=0).num_tokens == 24


def test_too_few_blocks_change_nothing() -> None:
    """A page-in that does not fit raises, and pages stay where they are."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9)
    churn(cache, A, B)
    cache.admit(1, C[:13])
    prefix = cache.paged_prefix(A)
    before = cache.pool.ref_counts().tolist(), cache.tiers.num_host_pages
    with pytest.raises(OutOfBlocks, match="8 blocks needed, 5 obtainable"):
        cache.begin_page_in(prefix)
    assert (cache.pool.ref_counts().tolist(), cache.tiers.num_host_pages) == before
    assert not mover.under_way
    cache.check_integrity()
    cache.begin_page_in(cache.paged_prefix(A, max_pages=5))


class InterruptedMover(SlowMover):
    """Somebody presses Ctrl-C while blocks are copied to the host."""

    is_interrupted = False

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Copy a part, and go no further."""
        super().store(blocks, slots)
        if self.is_interrupted:
            self.is_interrupted = False
            raise KeyboardInterrupt


@pytest.mark.parametrize("num_slots", [20, 40])
@pytest.mark.parametrize("call", ["admit", "append", "append batch", "fork", "page in", "page in of two"])
def test_an_interrupt_while_blocks_are_copied_loses_none(call: str, num_slots: int) -> None:
    """Whoever wanted the blocks gets none of them; what they held is forgotten, and all of them come home."""
    mover = InterruptedMover(num_slots)
    cache = cache_over(mover, num_blocks=20, fork_mode="eager")
    churn(cache, A, B, C)
    cache.admit(1, [*A[:12], 9, 9])
    cache.admit(2, [*C[:4], *[8] * 12])
    page_ins = [cache.begin_page_in(cache.paged_prefix(B, max_pages=1))] if call == "page in of two" else []
    churn(cache, [7] * 4 * (cache.pool.num_free - 1))
    calls = {
        "admit": lambda: cache.admit(3, [*A[:12], *[6] * 20]),
        "append": lambda: cache.append(1, [6] * 20),
        "append batch": lambda: cache.append_batch([2], [6]),
        "fork": lambda: cache.fork(1, 3),
        "page in": lambda: cache.begin_page_in(cache.paged_prefix(B)),
        "page in of two": lambda: cache.begin_page_in(cache.paged_prefix(B)),
    }
    before = [cache.block_table(seq_id).tolist() for seq_id in (1, 2)]
    num_free = cache.pool.num_free
    if call.startswith("page in"):
        assert cache.paged_prefix(B).num_paged
    mover.is_interrupted = True
    with pytest.raises(KeyboardInterrupt):
        calls[call]()
    cache.check_integrity()
    assert [cache.block_table(seq_id).tolist() for seq_id in (1, 2)] == before
    assert cache.pool.num_free == num_free
    for page_in in page_ins:
        cache.end_page_in(page_in)
    for _ in range(9):
        mover.end_all()
        cache.poll_page_ins()
    cache.release(1)
    cache.release(2)
    cache.check_integrity()
    assert cache.pool.num_free == 20
    cache.reset_prefix_cache()
    assert cache.tiers.num_kept == 0


def test_a_prefix_without_pages_or_out_of_date_is_refused() -> None:
    """There is nothing to bring, or it is not known any more what."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A)
    with pytest.raises(InvalidRequest, match="no pages"):
        cache.begin_page_in(cache.paged_prefix(A))
    churn(cache, B)
    prefix = cache.paged_prefix(A)
    cache.reset_prefix_cache()
    with pytest.raises(InvalidRequest, match="ask for it again"):
        cache.begin_page_in(prefix)
    cache.check_integrity()


def test_a_page_on_its_way_is_not_loaded_twice() -> None:
    """The second who wants it waits for the same copy, and holds the same block."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=20)
    churn(cache, A, B, C)
    first = cache.begin_page_in(cache.paged_prefix(A))
    prefix = cache.paged_prefix(A)
    assert (len(prefix.pages), prefix.num_rising, prefix.num_paged) == (0, 6, 6)
    second = cache.begin_page_in(prefix)
    assert len(mover.under_way) == 1
    cache.end_page_in(first)
    cache.check_integrity()
    mover.end_all()
    assert cache.poll_page_ins() == [second]
    assert cache.lookup(A) == 32
    cache.check_integrity()
    cache.end_page_in(second)
    assert cache.pool.num_free == 20


def test_who_gives_up_frees_at_once_what_no_copy_uses() -> None:
    """Blocks of the device are free, those that pages come into when the copy has ended; and it is cached."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9)
    churn(cache, A, [7] * 9)
    page_in = cache.begin_page_in(cache.paged_prefix(A))
    assert cache.pool.num_free == 1
    cache.end_page_in(page_in)
    assert cache.pool.num_free == 7
    mover.end_all()
    assert cache.poll_page_ins() == []
    assert cache.pool.num_free == 9
    assert cache.lookup(A) == 32
    cache.check_integrity()


def settled(cache: BlockManager, mover: SlowMover) -> None:
    """Let writes to the file end, and begin, until none is left."""
    while mover.under_way:
        mover.end_all()
        cache.poll_page_ins()


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_disk_that_does_not_answer_holds_no_block(is_reset: bool) -> None:
    """Two wait for the same reads; when both have given up, every block is free, though no read has ended."""
    mover = SlowMover(12, 64)
    cache = cache_over(mover, num_blocks=9, num_staging=2, num_reserved=10, queue_depth=2)
    for prompt in (A, B, C, [4] * 33, [5] * 33):
        churn(cache, prompt)
        settled(cache, mover)
    prefix = cache.paged_prefix(A)
    assert cache.tiers is not None
    assert cache.tiers.location(prefix.pages)[1] > 2
    first = cache.begin_page_in(prefix)
    second = cache.begin_page_in(cache.paged_prefix(A))
    assert "page_in" not in [copy.route for copy in mover.under_way]
    if is_reset:
        cache.reset_prefix_cache()
    cache.end_page_in(first)
    cache.check_integrity()
    assert cache.pool.num_free < 9
    cache.end_page_in(second)
    cache.check_integrity()
    assert cache.pool.num_free == 9
    assert cache.tiers.num_fetching == 2
    assert cache.paged_prefix(A).num_tokens == (0 if is_reset else prefix.num_tokens)
    settled(cache, mover)
    cache.check_integrity()
    assert cache.tiers.num_fetching == 0
    if not is_reset:
        page_in = bring(cache, mover, A)
        assert page_in.num_failed == 0
        cache.end_page_in(page_in)


@pytest.mark.parametrize("error", [OffloadError("EIO"), CorruptPage("flipped bit")])
def test_a_page_that_fails_is_forgotten(error: OffloadError) -> None:
    """The request hits what came before it, and computes the rest."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9)
    churn(cache, A, [7] * 9)
    page_in = cache.begin_page_in(cache.paged_prefix(A))
    mover.end_all(error)
    assert cache.poll_page_ins() == [page_in]
    assert page_in.num_failed == 2
    assert cache.admit(1, A).num_cached_tokens == 24
    cache.end_page_in(page_in)
    cache.check_integrity()
    assert cache.paged_prefix(A).num_tokens == 32  # the block that was computed again stands for it


def test_what_is_computed_again_takes_over_from_its_page() -> None:
    """A prefix is not kept twice: the page is freed when a block stands for its prefix."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A, B)
    assert cache.tiers.num_host_pages == 8
    cache.admit(1, A)
    assert cache.paged_prefix(A).num_paged == 0
    assert cache.tiers.num_host_pages == 8  # now B's
    cache.check_integrity()


def test_what_grows_token_by_token_takes_over_too() -> None:
    """A block that becomes full where a page stands takes its place."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A[:13], B)
    assert cache.tiers.num_host_pages == 3
    cache.admit(1, A[:2])
    for _ in range(11):
        cache.append_batch([1], [1])
    assert cache.paged_prefix(A[:13]).num_cached_tokens == 12
    cache.append(1, [1] * 8)
    cache.check_integrity()


def test_reset_forgets_pages_and_those_on_their_way() -> None:
    """What arrives later is thrown away."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9)
    churn(cache, A, [7] * 9)
    page_in = cache.begin_page_in(cache.paged_prefix(A))
    cache.reset_prefix_cache()
    assert cache.tiers.num_kept == 0
    mover.end_all()
    assert cache.poll_page_ins() == [page_in]
    assert page_in.num_failed == 2
    assert cache.lookup(A) == 0
    cache.end_page_in(page_in)
    cache.check_integrity()
    assert len(cache.tiers._table.spare_slots) == 16


def test_a_page_that_gives_way_takes_what_is_behind_it() -> None:
    """No prefix leads through nothing: blocks behind a lost page lose their mark."""
    cache = cache_over(FakeMover(2), num_blocks=9)
    churn(cache, A)
    churn(cache, B)  # of A, only the first blocks fit below
    assert cache.paged_prefix(A).num_tokens == 8
    cache.check_integrity()


def test_writing_into_a_cached_block_forgets_the_pages_behind_it() -> None:
    """A prefix that is overwritten takes with it what is below the device, too."""
    cache = cache_over(FakeMover(16), num_blocks=9)
    churn(cache, A, [7] * 9)
    cache.admit(1, A[:22])  # hits five blocks; pages are behind them
    cache.truncate(1, 18)
    assert cache.paged_prefix(A).num_paged == 3
    cache.append(1, [9])
    assert cache.paged_prefix(A).num_tokens == 16
    cache.check_integrity()
    assert cache.tiers.num_kept == 0


def test_events_tell_what_was_asked_for_and_what_came() -> None:
    """The numbers of page-ins: pages, from where, how soon after they were evicted, and what failed."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9)
    churn(cache, A, [7] * 9)
    events: list[Event] = []
    cache.events.attach(events.append)
    page_in = cache.begin_page_in(cache.paged_prefix(A), is_ahead=True)
    assert [event for event in events if isinstance(event, PageInStarted)] == [PageInStarted(2, 0, 2, True)]
    mover.end_all()
    cache.poll_page_ins()
    ended = [event for event in events if isinstance(event, PageInEnded)]
    assert ended == [PageInEnded(2, 0, 0, page_in.expected_ns)]
    assert page_in.expected_ns == 2000


def test_events_tell_for_how_long_nobody_looked() -> None:
    """What was missing at the last look and is there now may have come at any time in between."""
    mover, clock = SlowMover(16), VirtualClock()
    cache = cache_over(mover, num_blocks=9, clock=clock)
    churn(cache, A, [7] * 9)
    events: list[Event] = []
    cache.events.attach(events.append)
    clock.advance(1000)
    page_in = cache.begin_page_in(cache.paged_prefix(A))
    for step_ns in (30, 500):
        clock.advance(step_ns)
        assert not cache.poll_page_ins()
    mover.end_all()
    clock.advance(7)
    assert cache.poll_page_ins() == [page_in]
    ended = [event for event in events if isinstance(event, PageInEnded)]
    assert ended == [PageInEnded(2, 0, 537, page_in.expected_ns, unseen_ns=7)]


def test_blocks_that_prefixes_come_into_are_no_fragmentation() -> None:
    """They are in use, and wasted by no sequence."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=12)
    churn(cache, A, B)
    cache.admit(1, C[:4])
    cache.begin_page_in(cache.paged_prefix(A, max_pages=2))
    assert cache.internal_fragmentation() == 0.0
    assert cache.fragmentation().num_wasted_slots == 0
    cache.begin_step([1])
    cache.release(1)  # its block waits for the step: it is in use, and wasted
    assert cache.internal_fragmentation() == 1.0


def test_ready_ids_lead_through_pages_too() -> None:
    """The same by ids; recomputed ids take over."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=4, prefix_keys="ids")
    for seq_id, name in enumerate("abc"):
        cache.admit_keys(seq_id, [f"{name}{i}" for i in range(3)], num_prompt_tokens=13)
        cache.release(seq_id)
    ids = ["a0", "a1", "a2"]
    assert cache.prefix_hit_keys(ids, num_tokens=13).num_tokens == 0
    prefix = cache.paged_prefix_keys(ids, num_tokens=13)
    assert (prefix.num_tokens, prefix.num_paged) == (12, 3)
    page_in = cache.begin_page_in(prefix)
    mover.end_all()
    assert cache.poll_page_ins() == [page_in]
    assert cache.admit_keys(9, ids, num_prompt_tokens=13).num_cached_tokens == 12
    cache.end_page_in(page_in)
    cache.release(9)
    cache.admit_keys(10, ["c0", "c1"], num_prompt_tokens=9)
    cache.check_integrity()
    assert cache.paged_prefix_keys(["c0", "c1"], num_tokens=9).num_cached_tokens == 8
    with pytest.raises(InvalidRequest, match="distinct"):
        cache.paged_prefix_keys(["x", "x"], num_tokens=13)


def test_the_wrong_kind_of_keys_or_none_is_refused() -> None:
    """As `prefix_hit`; and without tiers there is nothing to ask for."""
    cache = BlockManager(CacheConfig(num_blocks=4))
    with pytest.raises(ConfigError, match="no tiers"):
        cache.paged_prefix([1, 2])
    assert cache.tiers is None
    assert cache.poll_page_ins() == []
    by_ids = cache_over(FakeMover(4), prefix_keys="ids")
    with pytest.raises(ConfigError, match="knows no tokens"):
        by_ids.paged_prefix([1, 2])
    with pytest.raises(ConfigError, match="knows no ids"):
        cache_over(FakeMover(4)).paged_prefix_keys(["a"], num_tokens=5)
    with pytest.raises(ConfigError, match="prefix_caching is off"):
        cache_over(FakeMover(4), prefix_caching=False)


@pytest.mark.parametrize("policy", ["lru", "arc", "fifo"])
def test_content_survives_many_turns(policy: str) -> None:
    """Conversations that take turns on a small device: every hit is their own KV, whatever the policy."""
    mover = FakeMover(12, 24)
    cache = cache_over(mover, num_blocks=8, block_size=4, policy=policy, num_reserved=4)
    shadow = ShadowedCache(cache)
    mover.device = _Blocks(shadow.shadow, 4)  # type: ignore[assignment]
    hits = 0
    for turn in range(60):
        prompt = [turn % 5] * (9 + 4 * (turn % 4))
        if (prefix := cache.paged_prefix(prompt)).num_paged:
            page_in = cache.begin_page_in(prefix)
            cache.poll_page_ins()
            cache.end_page_in(page_in)
        hits += shadow.admit(turn, prompt).num_cached_tokens
        shadow.check()
        shadow.release(turn)
    assert hits > 300


class _Blocks(dict[int, object]):
    """Shadow memory by blocks."""

    def __init__(self, slots: dict[int, object], size: int) -> None:
        self.slots, self.size = slots, size

    def get(self, block: int, default: object = None) -> object:
        return [self.slots.get(block * self.size + i) for i in range(self.size)]

    def __setitem__(self, block: int, content: object) -> None:
        assert isinstance(content, list)
        for i, one in enumerate(content):
            self.slots[block * self.size + i] = one


def test_keys_and_registration_survive_the_way_down_and_up() -> None:
    """What a page stands for, its block stands for again, and what is behind it still is."""
    mover = SlowMover(16)
    cache = cache_over(mover, num_blocks=9, policy="arc")
    churn(cache, A, B)
    table = cache.tiers._table
    pages = cache.paged_prefix(A).pages - 9
    keys = [table.key[page] for page in pages.tolist()]
    assert len(set(keys)) == 8
    cache.end_page_in(bring(cache, mover, A))
    churn(cache, C)
    pages = cache.paged_prefix(A).pages - 9
    assert [table.key[page] for page in pages.tolist()] == keys
    assert np.count_nonzero(cache.paged_prefix(B).ids >= 9) == 4  # what the host has room for
