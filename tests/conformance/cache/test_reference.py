"""The reference cache, by programs that are short enough to follow by hand."""

from collections.abc import Callable

import pytest

from pytest_pagedkv.adapter import OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

Picture = tuple[dict[int, tuple[int, ...]], int, dict[int, int]]


class EagerCache(ReferenceCache):
    """Copies a partly filled last block when it forks."""

    copies_at_fork = True


def make(num_blocks: int = 6, block_size: int = 2) -> ReferenceCache:
    """A small cache."""
    return ReferenceCache(num_blocks, block_size)


def picture(cache: ReferenceCache) -> Picture:
    """All that an observer sees."""
    tables = {seq_id: tuple(cache.block_table(seq_id)) for seq_id in cache._sequences}
    return tables, cache.num_free_blocks(), dict(cache.ref_counts())


def hit(cache: ReferenceCache, tokens: list[int], namespace: str = "") -> int:
    """Tokens that a prompt would find."""
    return len(cache._match(namespace, tokens)) * cache.block_size


class TestTables:
    """Blocks come and go."""

    def test_a_prompt_takes_as_many_blocks_as_it_fills(self) -> None:
        """Five tokens in blocks of two are three blocks."""
        cache = make()
        assert cache.admit(0, [1, 2, 3, 4, 5]) == Placement()
        assert len(set(cache.block_table(0))) == 3
        assert cache.num_free_blocks() == 3

    def test_an_append_takes_a_block_only_at_a_boundary(self) -> None:
        """The sixth token has a slot; the seventh needs a block."""
        cache = make()
        cache.admit(0, [1, 2, 3, 4, 5])
        cache.append(0, [6])
        assert cache.num_free_blocks() == 3
        cache.append(0, [7])
        assert cache.num_free_blocks() == 2

    def test_everything_comes_home(self) -> None:
        """After the last release one request can have the whole pool."""
        cache = make()
        cache.admit(0, [1, 2, 3])
        cache.fork(0, 1)
        cache.append(1, [4, 5])
        for seq_id in (0, 1):
            cache.release(seq_id)
        assert picture(cache) == ({}, 6, {})
        cache.admit(2, [9] * 12)
        assert sorted(cache.block_table(2)) == list(range(6))

    def test_a_truncation_gives_up_the_blocks_behind(self) -> None:
        """Cut to a boundary, none is left over; cut inside a block, that block stays."""
        cache = make()
        cache.admit(0, [1, 2, 3, 4, 5, 6])
        cache.truncate(0, 5)
        assert len(cache.block_table(0)) == 3
        cache.truncate(0, 4)
        assert len(cache.block_table(0)) == 2
        assert cache.num_free_blocks() == 4


class TestPrefixes:
    """What later prompts find."""

    def test_a_released_prompt_is_found_but_for_its_last_block(self) -> None:
        """One token at least is left to compute."""
        cache = make()
        cache.admit(0, [1, 2, 3, 4])
        cache.release(0)
        assert hit(cache, [1, 2, 3, 4]) == 2
        assert hit(cache, [1, 2, 3, 4, 5]) == 4

    def test_appended_tokens_are_found(self) -> None:
        """A block enters the index when it is full."""
        cache = make()
        cache.admit(0, [1, 2, 3])
        assert hit(cache, [1, 2, 3, 4, 5]) == 2
        cache.append(0, [4])
        assert hit(cache, [1, 2, 3, 4, 5]) == 4

    def test_a_block_is_found_only_behind_its_prefix(self) -> None:
        """Equal tokens behind other ones are other KV."""
        cache = make()
        cache.admit(0, [1, 2, 3, 4])
        assert hit(cache, [3, 4, 3, 4, 5]) == 0
        assert hit(cache, [1, 2, 3, 4, 5], "tenant") == 0

    @pytest.mark.parametrize("num_bits", [0, 1, 8])
    def test_colliding_digests_do_no_harm(self, num_bits: int) -> None:
        """Tokens are compared too."""
        cache = make()
        cache.weaken_hash(num_bits)
        cache.admit(0, [1, 2, 3, 4])
        assert hit(cache, [1, 2, 9, 4, 5]) == 2
        assert hit(cache, [9, 2, 3, 4, 5]) == 0
        assert hit(cache, [1, 2, 3, 4, 5]) == 4

    def test_the_oldest_prefix_goes_first_and_from_its_tail(self) -> None:
        """Blank blocks go before cached ones, and what was just used goes last."""
        cache = make(4)
        cache.admit(0, [1, 1, 2, 2])
        cache.admit(1, [3, 3, 4, 4])
        cache.release(0)
        cache.release(1)
        cache.admit(2, [5])
        assert hit(cache, [1, 1, 2, 2, 0]) == 2
        cache.admit(3, [6])
        assert (hit(cache, [1, 1, 2, 2, 0]), hit(cache, [3, 3, 4, 4, 0])) == (0, 4)
        cache.admit(4, [7])
        assert hit(cache, [3, 3, 4, 4, 0]) == 2

    def test_a_hit_survives_the_allocation_of_its_own_request(self) -> None:
        """All free blocks are cached ones, and the request needs them all, one to hit and two to evict."""
        cache = make(3)
        cache.admit(0, [1, 1, 2, 2, 3, 3])
        cache.release(0)
        assert cache.admit(1, [1, 1, 7, 7, 8, 8]) == Placement(2)
        assert sorted(cache.block_table(1)) == [0, 1, 2]

    def test_a_cut_block_is_found_until_it_is_written(self) -> None:
        """Its content stays that long."""
        cache = make()
        cache.admit(0, [1, 2, 3, 4])
        cache.truncate(0, 3)
        assert hit(cache, [1, 2, 3, 4, 5]) == 4
        cache.append(0, [9])
        assert hit(cache, [1, 2, 3, 4, 5]) == 2
        assert hit(cache, [1, 2, 3, 9, 5]) == 4

    def test_a_twin_keeps_a_prefix_when_the_other_goes(self) -> None:
        """Both blocks are in the index."""
        cache = make(4)
        cache.admit(0, [1, 2])
        cache.admit(1, [1, 2])
        assert cache.block_table(0) != cache.block_table(1)
        cache.truncate(1, 1)
        cache.append(1, [3])
        assert hit(cache, [1, 2, 5]) == 2

    def test_a_reset_forgets_everything_and_what_rests_on_it(self) -> None:
        """What a sequence from before the reset writes later is not found either."""
        cache = make()
        cache.admit(0, [1, 2, 3])
        cache.admit(1, [7, 7, 7])
        cache.release(1)
        cache.reset_prefix_cache()
        cache.append(0, [4])
        assert cache.num_free_blocks() == 4
        assert hit(cache, [7, 7, 7]) == 0
        assert hit(cache, [1, 2, 3, 4, 5]) == 0


class TestCopyOnWrite:
    """Who writes into a shared block gets a copy first."""

    @pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
    def test_the_first_writer_copies_and_the_last_writes_in_place(self, first: int, second: int) -> None:
        """Parent or child, whoever it is."""
        cache = make()
        cache.admit(0, [1, 2, 3])
        assert cache.fork(0, 1) == Placement()
        shared = cache.block_table(first)[-1]
        copies = cache.append(first, [4]).copies
        assert list(copies) == [(shared, cache.block_table(first)[-1])]
        assert cache.append(second, [4]) == Placement()
        assert cache.block_table(second)[-1] == shared
        assert cache.ref_counts() == {
            cache.block_table(0)[0]: 2,
            cache.block_table(0)[1]: 1,
            cache.block_table(1)[1]: 1,
        }

    def test_a_fork_on_a_boundary_never_copies(self) -> None:
        """There is nothing to write into."""
        cache = make()
        cache.admit(0, [1, 2])
        cache.fork(0, 1)
        assert cache.append(0, [3]) == cache.append(1, [3]) == Placement()

    def test_a_cut_shared_block_is_copied(self) -> None:
        """A truncation can make a shared block writable too."""
        cache = make()
        cache.admit(0, [1, 2, 3, 4])
        cache.fork(0, 1)
        cache.truncate(1, 3)
        assert list(cache.append(1, [9]).copies) == [(cache.block_table(0)[1], cache.block_table(1)[1])]
        assert hit(cache, [1, 2, 3, 4, 5]) == 4

    def test_an_eager_fork_copies_at_once(self) -> None:
        """And then nobody has to."""
        cache = EagerCache(4, 2)
        cache.admit(0, [1, 2, 3])
        assert list(cache.fork(0, 1).copies) == [(cache.block_table(0)[1], cache.block_table(1)[1])]
        assert cache.append(0, [4]) == cache.append(1, [4]) == Placement()
        cache.admit(2, [5])
        with pytest.raises(OutOfBlocks):
            cache.admit(3, [5])


class TestSwap:
    """KV that lives elsewhere for a while."""

    def test_a_swapped_sequence_has_no_blocks_and_comes_back_whole(self) -> None:
        """Its full blocks are found when it is back."""
        cache = make(3)
        cache.admit(0, [1, 2, 3])
        cache.swap_out(0)
        assert picture(cache) == ({0: ()}, 3, {})
        cache.admit(1, [9] * 6)
        cache.release(1)
        cache.swap_in(0)
        assert len(cache.block_table(0)) == 2
        assert hit(cache, [1, 2, 3]) == 2

    def test_a_swapped_sequence_can_be_released(self) -> None:
        """It has nothing to give back."""
        cache = make()
        cache.admit(0, [1, 2, 3])
        cache.swap_out(0)
        cache.release(0)
        assert picture(cache) == ({}, 6, {})


FULL = pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.admit(5, [1, 2, 3, 4, 8]),
        lambda cache: cache.append(0, [4, 5]),
        lambda cache: cache.append(3, [6]),
        lambda cache: cache.swap_in(2),
    ],
    ids=["admit", "append", "append that copies", "swap_in"],
)


class TestRefusals:
    """A call that raises has changed nothing."""

    @FULL
    def test_no_room(self, call: Callable[[ReferenceCache], object]) -> None:
        """Tables and counts are as before."""
        cache = make()
        cache.admit(2, [7, 7, 7])
        cache.swap_out(2)
        cache.admit(0, [1, 2, 3])
        cache.admit(1, [8, 8, 9])
        cache.fork(1, 3)
        cache.admit(4, [5, 5, 5])
        before = picture(cache)
        with pytest.raises(OutOfBlocks, match="needed"):
            call(cache)
        assert picture(cache) == before

    def test_no_room_touches_no_cached_prefix(self) -> None:
        """What is evicted next is what was to be evicted before, and what is hit still is."""
        cache = make(4)
        cache.admit(0, [1, 1, 2, 2])
        cache.release(0)
        cache.admit(1, [5, 5])
        before = picture(cache), list(cache._idle)
        with pytest.raises(OutOfBlocks):
            cache.admit(2, [1, 1, 2, 2, 3, 3, 4, 4])
        assert (picture(cache), list(cache._idle)) == before
        assert hit(cache, [1, 1, 2, 2, 3]) == 4

    def test_no_room_for_an_eager_fork(self) -> None:
        """The child is not live."""
        cache = EagerCache(1, 2)
        cache.admit(0, [1])
        with pytest.raises(OutOfBlocks):
            cache.fork(0, 1)
        assert picture(cache) == ({0: (0,)}, 0, {0: 1})

    @pytest.mark.parametrize(
        ("error", "call"),
        [
            (KeyError, lambda cache: cache.append(7, [1])),
            (KeyError, lambda cache: cache.fork(7, 8)),
            (KeyError, lambda cache: cache.truncate(7, 1)),
            (KeyError, lambda cache: cache.release(7)),
            (KeyError, lambda cache: cache.block_table(7)),
            (KeyError, lambda cache: cache.swap_out(7)),
            (KeyError, lambda cache: cache.swap_in(7)),
            (ValueError, lambda cache: cache.admit(0, [1])),
            (ValueError, lambda cache: cache.fork(0, 0)),
            (ValueError, lambda cache: cache.fork(0, 1)),
            (ValueError, lambda cache: cache.append(1, [1])),
            (ValueError, lambda cache: cache.swap_in(0)),
            (ValueError, lambda cache: cache.truncate(0, 4)),
            (ValueError, lambda cache: cache.append(0, [])),
        ],
    )
    def test_misuse(self, error: type[Exception], call: Callable[[ReferenceCache], object]) -> None:
        """KeyError for an unknown id, ValueError for what cannot be done with a known one."""
        cache = make()
        cache.admit(0, [1, 2, 3])
        cache.admit(1, [4])
        cache.swap_out(1)
        before = picture(cache)
        with pytest.raises(error):
            call(cache)
        assert picture(cache) == before
