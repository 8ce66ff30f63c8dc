"""The block pool: order, references, marks, refusals."""

from array import array
from collections import Counter as Bag

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagedkv import BlockPool
from pagedkv.errors import (
    DoubleFree,
    InvalidRequest,
    InvariantError,
    OutOfBlocks,
    RefCountUnderflow,
    UnknownBlock,
)
from pagedkv.stats import Counters
from tests.examples import examples


def picture(pool: BlockPool) -> tuple[object, ...]:
    """All of the observable state, the order of the free queue included; leaves the pool as it was."""
    return pool.ref_counts().tolist(), pool.num_free, pool.num_evictable, pool.cached_mask().tolist()


class PoolMachine(RuleBasedStateMachine):
    """The pool against a dict of counts and a list as the free queue."""

    size = 200

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(self.size)
        self.evicted: list[int] = []
        self.pool.on_evict = lambda ids: self.evicted.extend(ids.tolist())
        self.queue = list(range(self.size))
        self.counts: dict[int, int] = {}
        self.cached: set[int] = set()

    def held(self, data: st.DataObject, most: int = 100) -> list[int]:
        """Some blocks in use: a run of them, or a few."""
        blocks = list(self.counts)
        start = data.draw(st.integers(0, len(blocks) - 1))
        return blocks[start : start + data.draw(st.integers(1, most))]

    @rule(n=st.one_of(st.integers(0, 20), st.integers(0, 210)))
    def allocate(self, n: int) -> None:
        if n > len(self.queue):
            before = picture(self.pool)
            with pytest.raises(OutOfBlocks) as caught:
                self.pool.allocate(n)
            idle = len(self.cached & set(self.queue))
            assert (caught.value.needed, caught.value.free) == (n, len(self.queue) - idle)
            assert caught.value.evictable == idle
            assert picture(self.pool) == before
            return
        self.evicted.clear()
        ids = self.pool.allocate(n)
        assert ids.tolist() == self.queue[:n]
        assert self.evicted == [b for b in ids if b in self.cached]
        self.cached -= set(ids)
        del self.queue[:n]
        self.counts.update(dict.fromkeys(ids, 1))

    @precondition(lambda self: self.counts)
    @rule(data=st.data(), form=st.sampled_from([list, np.array, tuple, lambda b: array("q", b)]))
    def free(self, data: st.DataObject, form: type) -> None:
        blocks = self.held(data)
        self.pool.free(form(blocks))
        for block in blocks:
            self.counts[block] -= 1
            if not self.counts[block]:
                del self.counts[block]
                self.queue.append(block)

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def free_repeatedly(self, data: st.DataObject) -> None:
        """A block may be named as often as it has references: it becomes free where it is named last."""
        blocks = [b for b in self.held(data, 10) for _ in range(self.counts[b])]
        blocks = data.draw(st.permutations(blocks))
        self.pool.free(blocks)
        for block in dict.fromkeys(reversed(blocks)):
            del self.counts[block]
        self.queue += reversed(list(dict.fromkeys(reversed(blocks))))

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        blocks = self.held(data)
        self.pool.share(blocks + blocks[:1])
        for block in blocks + blocks[:1]:
            self.counts[block] += 1

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        blocks = self.held(data)
        self.pool.mark_cached(blocks)
        self.cached |= set(blocks)

    @precondition(lambda self: self.cached)
    @rule(data=st.data())
    def unmark(self, data: st.DataObject) -> None:
        blocks = data.draw(st.lists(st.sampled_from(sorted(self.cached)), max_size=30))
        self.pool.unmark_cached(blocks)
        self.cached -= set(blocks)

    @precondition(lambda self: self.cached)
    @rule(data=st.data())
    def reuse(self, data: st.DataObject) -> None:
        order = sorted(self.cached)
        start = data.draw(st.integers(0, len(order) - 1))
        blocks = order[start : start + data.draw(st.integers(1, 100))]
        self.pool.reuse(blocks)
        for block in blocks:
            self.counts[block] = self.counts.get(block, 0) + 1
        self.queue = [b for b in self.queue if b not in set(blocks)]

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def over_release(self, data: st.DataObject) -> None:
        """Naming a free block, or one more often than it has references, changes nothing."""
        blocks = [*list(self.counts)[:20], data.draw(st.sampled_from(self.queue))]
        if data.draw(st.booleans()) and self.counts:
            block = next(iter(self.counts))
            blocks = list(self.counts)[:20] + [block] * self.counts[block]
        before = picture(self.pool)
        with pytest.raises((DoubleFree, RefCountUnderflow)):
            self.pool.free(blocks)
        assert picture(self.pool) == before

    @invariant()
    def agrees(self) -> None:
        self.pool.check_integrity()
        assert self.pool.num_free == len(self.queue)
        assert self.pool.num_evictable == len(self.cached & set(self.queue))
        expected = np.zeros(self.size, int)
        expected[list(self.counts)] = list(self.counts.values())
        assert (self.pool.ref_counts() == expected).all()
        bag = Bag(min(c, 3) for c in self.counts.values())
        assert self.pool.refcount_hist() == {"1": bag[1], "2": bag[2], "3+": bag[3]}

    def teardown(self) -> None:
        """The whole queue comes out in order."""
        assert self.pool.allocate(len(self.queue)).tolist() == self.queue


def test_random_programs() -> None:
    """The pool does what a dict of counts and a list as the free queue do."""
    run_state_machine_as_test(
        PoolMachine, settings=settings(max_examples=examples(80), stateful_step_count=50, deadline=None)
    )


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
@settings(deadline=None, max_examples=50)
def test_the_queue_survives_any_number_of_releases(sizes: list[int]) -> None:
    """First in, first out holds across compaction of the queue's memory."""
    pool, queue = BlockPool(40), list(range(40))
    for n in sizes * 4:
        ids = pool.allocate(n)
        assert ids.tolist() == queue[:n]
        pool.free(ids)
        queue = queue[n:] + queue[:n]
    pool.check_integrity()


@given(st.integers(1, 40), st.data())
@settings(deadline=None, max_examples=examples(150))
def test_the_queue_survives_any_number_of_reuses(size: int, data: st.DataObject) -> None:
    """Cached blocks that come and go keep the order of the others, and never overrun the ring."""
    pool, queue = BlockPool(size), list(range(size))
    pool.mark_cached(pool.allocate(size))
    pool.free(queue)
    held: list[int] = []
    for _ in range(data.draw(st.integers(1, 60))):
        blocks = data.draw(st.lists(st.sampled_from(queue), unique=True)) if queue else []
        pool.reuse(blocks)
        held += blocks
        queue = [b for b in queue if b not in blocks]
        cut = data.draw(st.integers(0, len(held)))
        pool.free(held[:cut])
        queue += held[:cut]
        del held[:cut]
        pool.check_integrity()
        assert pool._tail - pool._head <= pool._capacity
    assert pool.allocate(len(queue)).tolist() == queue


@pytest.mark.parametrize("num_blocks", [0, -1, 2.5, "8", None, True, 2**40])
def test_a_pool_needs_a_positive_number_of_blocks(num_blocks: object) -> None:
    """A size that is no int of at least 1 is refused."""
    with pytest.raises(InvalidRequest, match="at least 1"):
        BlockPool(num_blocks)


@pytest.mark.parametrize("n", [-1, 2.5, "3", None, float("nan")])
def test_only_a_count_can_be_allocated(n: object) -> None:
    """A negative count, or something else, is refused with the number, and changes nothing."""
    pool = BlockPool(8)
    with pytest.raises(InvalidRequest, match=str(n)):
        pool.allocate(n)
    assert pool.num_free == 8


def test_a_request_larger_than_the_pool_can_never_be_served() -> None:
    """The message tells a lack of room from a pool that is too small."""
    pool = BlockPool(8)
    with pytest.raises(OutOfBlocks, match=r"9 blocks needed, 8 obtainable .* can never be served"):
        pool.allocate(9)
    pool.allocate(8)
    with pytest.raises(OutOfBlocks, match="release or preempt"):
        pool.allocate(1)


@pytest.mark.parametrize("few", [1, 40])
def test_double_release(few: int) -> None:
    """Releasing twice, or naming a block twice in one release, is refused whole."""
    pool = BlockPool(100)
    ids = pool.allocate(few)
    with pytest.raises(DoubleFree, match=f"block {ids[0]} is named 2 times"):
        pool.free(ids + ids[:1])
    assert pool.num_free == 100 - few
    pool.free(ids)
    with pytest.raises(DoubleFree, match="free already"):
        pool.free(ids)
    assert pool.num_free == 100


def test_more_references_dropped_than_there_are() -> None:
    """A shared block that is named too often is an underflow, with the numbers."""
    pool = BlockPool(4)
    ids = pool.allocate(1)
    pool.share(ids)
    with pytest.raises(RefCountUnderflow, match=r"named 3 times and has 2 reference"):
        pool.free([ids[0]] * 3)
    assert pool.ref_count(ids[0]) == 2


@pytest.mark.parametrize("block", [8, -1, -8, -9, -25, 2**40, -(2**40)])
@pytest.mark.parametrize("padding", [0, 30])
def test_blocks_outside_the_pool(block: int, padding: int) -> None:
    """No id outside the pool stands for a block inside it, however Python would index."""
    pool = BlockPool(40)
    ids = pool.allocate(32)
    outside = block + 32 if block == 8 else block
    for operation in (pool.free, pool.share, pool.mark_cached, pool.unmark_cached, pool.reuse):
        with pytest.raises(UnknownBlock, match=str(outside)):
            operation([*ids[:padding], outside])
    with pytest.raises(UnknownBlock):
        pool.ref_count(outside)
    assert pool.ref_counts().sum() == 32


@pytest.mark.parametrize("block", range(-120, 0))
def test_negative_ids_are_not_counted_from_the_end(block: int) -> None:
    """However long the list, no negative id stands for a block in use that the list does not name."""
    pool = BlockPool(40)
    for _ in range(8):  # all around the ring
        ids = pool.allocate(40)
        with pytest.raises(UnknownBlock, match=f"block {block} is not in the pool"):
            pool.free([*(b for b in ids if b != block % 40), block])
        assert pool.ref_counts().tolist() == [1] * 40
        pool.free(ids)
    pool.check_integrity()


@pytest.mark.parametrize(
    "ids",
    [5, ["a"], [1.0], None, [2**70], array("d", [1.0]), b"\0" * 8, np.zeros((2, 2), int), np.array([0.5])],
)
def test_ids_that_are_none(ids: object) -> None:
    """What is no collection of ints is refused with a message that shows it."""
    pool = BlockPool(4)
    pool.allocate(4)
    with pytest.raises(InvalidRequest, match="block ids must be"):
        pool.free(ids)
    assert pool.num_free == 0


def test_a_free_block_cannot_be_shared_marked_or_revived() -> None:
    """Only blocks in use gain owners or marks, and only cached ones come back from the queue."""
    pool = BlockPool(4)
    for operation in (pool.share, pool.mark_cached, pool.reuse):
        with pytest.raises(UnknownBlock):
            operation([2])
    pool.check_integrity()
    assert pool.num_free == 4


def test_reuse_names_each_block_once() -> None:
    """A repeated id is refused and changes nothing."""
    pool = BlockPool(4)
    ids = pool.allocate(2)
    pool.mark_cached(ids)
    pool.free(ids)
    with pytest.raises(InvalidRequest, match="repeats one"):
        pool.reuse([*ids, ids[0]])
    assert (pool.num_free, pool.num_evictable) == (4, 2)
    pool.check_integrity()


def test_nothing_is_a_valid_request() -> None:
    """Allocating none and releasing none are allowed."""
    pool = BlockPool(4)
    assert len(pool.allocate(0)) == 0
    pool.free([])
    pool.share([])
    pool.reuse([])
    assert pool.num_free == 4


def test_free_runs() -> None:
    """Runs of free ids are maximal and in id order."""
    pool = BlockPool(10)
    pool.allocate(10)
    pool.free([1, 2, 5, 7, 8, 9])
    assert pool.free_runs().tolist() == [2, 1, 3]


@pytest.mark.parametrize("damage", ["lost", "queued twice", "num_free", "evictable"])
def test_damage_is_found(damage: str) -> None:
    """check_integrity says what it found and what it expected."""
    pool = BlockPool(8)
    pool.free(pool.allocate(3))
    if damage == "lost":
        pool._state[4] = 0
    elif damage == "queued twice":
        pool._state[4] = pool._state[5]
    elif damage == "num_free":
        pool._num_free -= 1
    else:
        pool._num_evictable += 1
    with pytest.raises(InvariantError, match=r"found \d+, expected \d+"):
        pool.check_integrity()


def test_events_tell_what_happened() -> None:
    """Counters fold to the numbers of what was done; a failure counts as one."""
    pool, counters = BlockPool(8), Counters()
    pool.events.attach(counters)
    ids = pool.allocate(5)
    pool.share(ids[:2])
    pool.free(ids)
    with pytest.raises(OutOfBlocks):
        pool.allocate(7)
    pool.events.detach(counters)
    pool.free(ids[:2])
    assert counters.as_dict() == {
        "blocks_allocated": 5,
        "blocks_freed": 3,
        "blocks_peak": 5,
        "blocks_shared": 2,
        "out_of_blocks": 1,
        "ref_count_max": 2,
    }
