"""The block manager: what each call answers, refuses and leaves alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv import BlockManager, CacheConfig, Placement
from pagedkv.errors import (
    ConfigError,
    DuplicateSequence,
    InvalidRequest,
    InvariantError,
    OutOfBlocks,
    PagedKVError,
    UnknownSequence,
)
from pagedkv.prefix_cache import TokenIndex
from pagedkv.stats import Counters
from tests.block_manager.shadow import ShadowedCache


def make(num_blocks: int = 16, block_size: int = 4, **settings_: object) -> BlockManager:
    """A small cache."""
    return BlockManager(CacheConfig(num_blocks=num_blocks, block_size=block_size, **settings_))


def picture(cache: BlockManager) -> object:
    """All of the observable state."""
    tables = {i: cache.block_table(i).tolist() for i in cache.seq_ids()}
    return tables, cache.pool.num_free, cache.pool.ref_counts().tolist(), cache.num_cached_blocks


# ---- admission and prefix reuse


def test_a_released_prefix_hits_up_to_the_last_full_block_but_one_token() -> None:
    """There is always at least one token left to compute."""
    cache = make()
    cache.admit(1, range(12))
    cache.release(1)
    assert cache.lookup(range(12)) == 8
    assert cache.lookup(range(13)) == 12
    assert cache.admit(2, range(13)).num_cached_tokens == 12


def test_hits_compare_tokens_and_namespace() -> None:
    """One different token ends the hit at its block; another namespace never hits."""
    cache = make()
    cache.admit(1, range(12))
    assert cache.lookup([0, 1, 2, 3, 4, 5, 6, 99, 8, 9, 10, 11, 12]) == 4
    assert cache.lookup(range(13), namespace="tenant") == 0


def test_tails_are_evicted_first() -> None:
    """Of a released prefix the last blocks go first, one for one."""
    cache = make(num_blocks=8)
    cache.admit(1, range(32))
    cache.release(1)
    for used in range(1, 8):
        cache.admit(100 + used, [1000 + used])
        assert cache.lookup(range(33)) == 32 - 4 * used
    cache.check_integrity()


def test_a_just_used_prefix_is_evicted_last() -> None:
    """A hit moves a prefix to the end of the eviction order."""
    cache = make(num_blocks=8)
    for seq_id, first in ((1, 0), (2, 100)):
        cache.admit(seq_id, range(first, first + 16))
        cache.release(seq_id)
    cache.admit(3, range(13))
    cache.release(3)
    cache.admit(4, range(500, 516))
    assert cache.lookup(range(13)) == 12
    assert cache.lookup(range(100, 113)) == 0


def test_hit_blocks_survive_their_own_admission() -> None:
    """Blocks that a request hits are not evicted to make room for the rest of it."""
    cache = make(num_blocks=4)
    cache.admit(1, range(16))
    cache.release(1)
    assert cache.admit(2, [*range(12), 77, 78, 79]).num_cached_tokens == 12
    assert cache.block_table(2).tolist()[:3] == [0, 1, 2]


def test_admission_that_only_its_own_hits_could_feed_is_refused() -> None:
    """Idle blocks that would be hit do not count as room for the rest, and the refusal says so."""
    cache = make(num_blocks=4)
    cache.admit(1, range(8))
    cache.release(1)
    cache.admit(2, [50])
    before = picture(cache)
    with pytest.raises(OutOfBlocks, match=r"2 blocks needed, 1 obtainable \(1 free, 0 evictable\)"):
        cache.admit(3, range(16))
    assert picture(cache) == before
    assert cache.lookup(range(9)) == 8


def test_an_empty_prompt_is_a_sequence_without_blocks() -> None:
    """A sequence may start with nothing and grow."""
    cache = make()
    cache.admit(1, [])
    assert cache.block_table(1).tolist() == []
    cache.append(1, [5])
    assert cache.num_tokens(1) == 1


def test_reset_forgets_every_prefix_and_loses_no_block() -> None:
    """After a reset nothing hits; idle cached blocks are plain free ones."""
    cache = make()
    cache.admit(1, range(12))
    cache.admit(2, range(12))
    cache.release(1)
    cache.reset_prefix_cache()
    assert cache.lookup(range(13)) == 0
    assert (cache.num_cached_blocks, cache.pool.num_evictable) == (0, 0)
    cache.release(2)
    cache.check_integrity()
    assert cache.pool.num_free == 16


def test_nothing_from_before_a_reset_comes_back() -> None:
    """Replay: a sequence that was live at the reset, or its fork, does not register its old blocks again."""
    cache = make()
    cache.admit(1, range(9))
    cache.reset_prefix_cache()
    cache.fork(1, 2)
    cache.append(1, range(9, 17))
    cache.append_batch([1, 2], [17, 9])
    for _ in range(4):
        cache.append_batch([1, 2], [3, 3])
    assert cache.num_cached_blocks == 0
    cache.admit(3, range(9))
    assert cache.lookup(range(17)) == 8
    cache.check_integrity()


def test_a_twin_continues_to_be_cached() -> None:
    """Replay: the later of two equal prompts still leaves what it generated in the cache."""
    cache = make()
    cache.admit(1, range(8))
    cache.admit(2, range(8))  # its second block is a twin of the first sequence's
    cache.append(2, range(8, 16))
    cache.release(1)
    cache.release(2)
    assert cache.lookup(range(17)) == 16
    cache.check_integrity()


def test_twins_register_without_walking_their_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal sequences in lock step look at the block that they fill, not at all that came before."""
    cache = make(num_blocks=256)
    for seq_id in range(3):
        cache.admit(seq_id, range(80))
    lengths, insert = [], TokenIndex.insert
    monkeypatch.setattr(
        TokenIndex,
        "insert",
        lambda self, ns, keys, *rest: lengths.append(len(keys)) or insert(self, ns, keys, *rest),
    )
    for token in range(20):
        cache.append_batch([0, 1, 2], [token] * 3)
    assert set(lengths) == {4 * cache.config.block_size}
    assert cache.num_cached_blocks == 25
    cache.check_integrity()


def test_a_twin_of_what_was_evicted_stands_for_itself_again() -> None:
    """When the registered block goes, the next block to fill registers its twin's path anew."""
    cache = make(num_blocks=9)
    cache.admit(1, range(8))
    cache.admit(2, range(8))
    cache.release(1)
    cache.admit(3, range(100, 124))  # evicts the block that sequence 2 has a twin of
    cache.append(2, range(8, 12))
    assert cache.lookup(range(13)) == 12
    cache.check_integrity()


def test_evicting_a_twin_takes_what_stands_behind_it() -> None:
    """A block never outlives in the cache the block before it, though other blocks hold that content too."""
    cache = make(num_blocks=6)
    cache.admit(1, range(8))
    cache.admit(2, range(8))
    cache.append(2, range(8, 12))
    cache.release(1)
    cache.admit(3, range(100, 112))  # evicts the registered twin while sequence 2 holds the other
    assert cache.lookup(range(13)) == 4
    cache.check_integrity()


# ---- ready ids


def test_ready_ids() -> None:
    """Block ids from outside are looked up flat, reserve at once, and register full prompt blocks only."""
    cache = make(prefix_keys="ids")
    assert cache.admit_keys(1, [7, 8, 9], num_prompt_tokens=10, num_tokens=18) == Placement(0)
    assert len(cache.block_table(1)) == 5
    assert cache.num_cached_blocks == 2
    cache.release(1)
    assert cache.admit_keys(2, [7, 8, 9], num_prompt_tokens=12).num_cached_tokens == 8
    assert cache.num_cached_blocks == 3
    cache.check_integrity()


def test_an_overwritten_block_is_no_longer_known_by_its_id() -> None:
    """Replay: truncating into a registered block and writing there takes it out of the index of ready ids."""
    for write in (lambda c: c.append(1, [1, 2, 3]), lambda c: c.append_batch([1], [1])):
        cache = make(prefix_keys="ids")
        cache.admit_keys(1, [10, 11], num_prompt_tokens=8)
        cache.truncate(1, 6)
        write(cache)
        cache.check_integrity()
        cache.release(1)
        assert cache.admit_keys(2, [10, 11, 12], num_prompt_tokens=12).num_cached_tokens == 4


@pytest.mark.parametrize("ids", [[[1], [2]], [5, 5], [None, 1], None, {1: 2}, {1, 2}], ids=repr)
def test_ready_ids_that_cannot_stand_for_prefixes(ids: object) -> None:
    """They are refused before anything changes."""
    cache = make(prefix_keys="ids")
    cache.admit_keys(1, ["a", "b"], num_prompt_tokens=8)
    before = picture(cache)
    with pytest.raises(InvalidRequest, match="block ids"):
        cache.admit_keys(2, ids, num_prompt_tokens=8)
    assert picture(cache) == before
    cache.check_integrity()


def test_damage_to_the_index_of_ready_ids_is_found() -> None:
    """check_integrity looks into whichever index there is."""
    cache = make(prefix_keys="ids")
    cache.admit_keys(1, ["a", "b"], num_prompt_tokens=8)
    cache._ids._id_of[0] = None
    with pytest.raises(InvariantError, match="is known as None"):
        cache.check_integrity()


def test_a_cache_takes_tokens_or_ids_not_both() -> None:
    """Each way of admission names the other where it is the wrong one."""
    for call in (lambda c: c.admit(1, [1]), lambda c: c.lookup([1])):
        with pytest.raises(ConfigError, match='prefix_keys is "ids"'):
            call(make(prefix_keys="ids"))
    for cache in (make(), make(prefix_caching=False)):
        with pytest.raises(ConfigError, match="prefix_keys"):
            cache.admit_keys(1, [1], num_prompt_tokens=1)


@pytest.mark.parametrize(("prompt", "total"), [(-1, None), (5, 4), (-2, 3), (2.5, 3), ("2", None)])
def test_lengths_of_ready_ids_must_fit(prompt: object, total: int | None) -> None:
    """A negative prompt, or a total below it, is refused."""
    with pytest.raises(InvalidRequest, match="does not fit"):
        make(prefix_keys="ids").admit_keys(1, [], num_prompt_tokens=prompt, num_tokens=total)


# ---- copy-on-write


@pytest.mark.parametrize("writers", [[1, 2, 3], [3, 1, 2], [2, 3, 1]])
def test_the_last_writer_of_a_shared_block_writes_in_place(writers: list[int]) -> None:
    """Of n sequences that share a partly filled block, n - 1 copy it, whoever they are."""
    cache = make()
    cache.admit(1, range(6))
    cache.fork(1, 2)
    cache.fork(2, 3)
    shared = cache.block_table(1)[1]
    copies = [cache.append(seq_id, [9]).copies for seq_id in writers]
    assert [len(c) for c in copies] == [1, 1, 0]
    assert all(source == shared for c in copies for source, _ in c)
    assert cache.block_table(writers[-1])[1] == shared


def test_a_batch_copies_like_its_members_one_by_one() -> None:
    """One step of all beams of a prompt copies the shared block for all but one of them."""
    cache = make(num_blocks=64)
    cache.admit(0, range(6))
    for beam in range(1, 8):
        cache.fork(0, beam)
    placement = cache.append_batch(range(8), range(8))
    assert len(placement.copies) == 7
    assert len(set(placement.slot_mapping.tolist())) == 8
    assert not cache.append_batch(range(8), range(8)).copies


def test_a_step_of_nobody_is_a_step() -> None:
    """An empty batch is allowed and does nothing."""
    placement = make().append_batch([], [])
    assert (len(placement.slot_mapping), len(placement.rows), len(placement.copies)) == (0, 0, 0)


def test_full_blocks_are_shared_without_copies() -> None:
    """A fork on a block boundary never copies."""
    cache = make()
    cache.admit(1, range(8))
    cache.fork(1, 2)
    assert not cache.append_batch([1, 2], [5, 6]).copies


def test_eager_forks_copy_at_once_and_never_later() -> None:
    """fork_mode="eager" moves the copy from the decode step to the fork."""
    cache = make(fork_mode="eager")
    cache.admit(1, range(6))
    assert cache.fork(1, 2).copies == [(1, 2)]
    assert not cache.append_batch([1, 2], [5, 6]).copies


def test_forks_of_full_blocks_never_copy() -> None:
    """fork_mode="full_blocks" leaves the partly filled block to the parent; the child gets its own."""
    cache = make(fork_mode="full_blocks")
    cache.admit(1, range(6))
    assert not cache.fork(1, 2).copies
    assert cache.num_tokens(2) == 4
    cache.append(2, [4, 5])
    assert not cache.append_batch([1, 2], [5, 6]).copies
    assert cache.refcount_hist() == {"1": 2, "2": 1, "3+": 0}
    cache.check_integrity()


def test_a_fork_shorter_than_a_block_shares_nothing_of_full_blocks() -> None:
    """It begins empty, and is a sequence like any other."""
    cache = make(fork_mode="full_blocks")
    cache.admit(1, range(3))
    cache.fork(1, 2)
    assert (cache.num_tokens(2), len(cache.block_table(2))) == (0, 0)
    cache.append(2, range(3))
    cache.release(1)
    cache.release(2)
    cache.check_integrity()


def test_an_eager_fork_without_room_changes_nothing() -> None:
    """The copy is refused before anything is shared."""
    cache = make(num_blocks=2, fork_mode="eager")
    cache.admit(1, range(6))
    before = picture(cache)
    with pytest.raises(OutOfBlocks):
        cache.fork(1, 2)
    assert picture(cache) == before


def test_a_step_without_room_changes_nothing() -> None:
    """New blocks and copies of the whole batch are obtained together or not at all."""
    cache = make(num_blocks=4)
    cache.admit(1, range(6))
    cache.fork(1, 2)
    cache.admit(3, range(100, 104))
    before = picture(cache)
    with pytest.raises(OutOfBlocks, match="2 blocks needed, 1 obtainable"):
        cache.append_batch([1, 2, 3], [7, 8, 9])
    assert picture(cache) == before
    cache.check_integrity()


# ---- truncation


def test_a_truncated_block_is_reusable_until_it_is_written() -> None:
    """A hit before the overwrite is sound and protects the content; after an overwrite there is none."""
    cache = make()
    cache.admit(1, range(8))
    cache.truncate(1, 6)
    assert cache.lookup(range(9)) == 8
    cache.append(1, [99])
    assert cache.lookup(range(9)) == 4
    cache.check_integrity()


def test_a_truncated_block_that_was_hit_is_copied() -> None:
    """Whoever reused the block keeps it as it was."""
    cache = ShadowedCache(make())
    cache.admit(1, list(range(8)))
    cache.truncate(1, 6)
    cache.admit(2, list(range(9)))
    assert len(cache.append(1, [99]).copies) == 1
    cache.check()


def test_truncation_takes_the_tail_of_its_blocks_first() -> None:
    """Dropped blocks join the free queue last one first."""
    cache = make(prefix_caching=False, num_blocks=6)
    cache.admit(1, range(24))
    cache.truncate(1, 5)
    assert cache.pool.allocate(4).tolist() == [5, 4, 3, 2]


@pytest.mark.parametrize("length", [-1, 9, 2.0, None])
def test_truncation_needs_a_length_of_the_sequence(length: object) -> None:
    """Cutting back to what is not there is refused with both numbers."""
    cache = make()
    cache.admit(1, range(8))
    with pytest.raises(InvalidRequest, match="has 8 tokens"):
        cache.truncate(1, length)
    assert cache.num_tokens(1) == 8


# ---- steps in flight


def test_a_block_that_a_step_reads_comes_back_when_it_is_retired() -> None:
    """Release in mid-step gives the blocks back only after the step."""
    cache = make(num_blocks=4)
    cache.admit(1, range(16))
    step = cache.begin_step([1])
    cache.release(1)
    assert (cache.pool.num_free, cache.num_deferred_blocks) == (0, 4)
    with pytest.raises(OutOfBlocks):
        cache.admit(2, [1])
    cache.check_integrity()
    cache.retire_step(step)
    assert (cache.pool.num_free, cache.num_deferred_blocks) == (4, 0)


def test_another_owner_who_lets_go_first_does_not_free_a_block_that_is_read() -> None:
    """It is the reference that waits: sharing and releasing around it changes nothing."""
    cache = make(num_blocks=4)
    cache.admit(1, range(16))
    cache.fork(1, 2)
    cache.begin_step([1])
    cache.release(1)
    cache.release(2)
    assert cache.pool.num_free == 0
    cache.retire_step(1)
    assert cache.pool.num_free == 4


def test_retiring_a_step_retires_the_earlier_ones() -> None:
    """Steps finish in order; a step that is not in flight cannot be retired."""
    cache = make()
    cache.admit(1, range(8))
    cache.begin_step([1])
    cache.release(1)
    cache.admit(2, [1])
    cache.retire_step(cache.begin_step([2]))
    assert cache.num_deferred_blocks == 0
    with pytest.raises(InvalidRequest, match="step 1 is not in flight; none is"):
        cache.retire_step(1)
    cache.begin_step([2])
    with pytest.raises(InvalidRequest, match="steps 3 to 3 are"):
        cache.retire_step(4)


def test_waiting_references_make_nobody_copy() -> None:
    """Replay: the only live holder of a block writes in place while a finished twin's step is in flight."""
    cache = make(num_blocks=1)
    cache.admit(1, [1, 2])
    cache.fork(1, 2)
    cache.begin_step([1, 2])
    cache.release(2)
    assert not cache.append_batch([1], [5]).copies
    cache.check_integrity()
    cache.retire_step(1)
    cache.release(1)
    assert cache.pool.num_free == 1


def test_waiting_blocks_come_back_in_the_order_of_their_release() -> None:
    """What is released first is handed out first, and each tail before its head."""
    cache = make(num_blocks=6, prefix_caching=False)
    cache.admit(1, range(8))
    cache.admit(2, range(8))
    step = cache.begin_step([1, 2])
    cache.release(2)
    cache.release(1)
    cache.retire_step(step)
    assert cache.pool.allocate(6).tolist() == [4, 5, 3, 2, 1, 0]


def test_a_new_sequence_is_in_no_step() -> None:
    """A row that a step read is given to the next sequence without that step."""
    cache = make(num_blocks=4)
    cache.admit(1, [1])
    cache.begin_step([1])
    cache.release(1)
    cache.admit(2, [2])
    cache.release(2)
    assert cache.num_deferred_blocks == 1


# ---- misuse


def test_unknown_sequences() -> None:
    """Every call on an id that is not live is an UnknownSequence, a KeyError, and changes nothing."""
    cache = make()
    cache.admit(1, range(6))
    before = picture(cache)
    for call in (
        lambda: cache.append(9, [1]),
        lambda: cache.append_batch([1, 9], [1, 1]),
        lambda: cache.fork(9, 10),
        lambda: cache.truncate(9, 0),
        lambda: cache.release(9),
        lambda: cache.block_table(9),
        lambda: cache.num_tokens(9),
        lambda: cache.begin_step([9]),
        lambda: cache.slot_mapping(9, 0, 0),
        lambda: cache.release("x"),
        lambda: cache.append_batch([[1]], [1]),
    ):
        with pytest.raises(UnknownSequence, match=r"^sequence .* is not live"):
            call()
    assert issubclass(UnknownSequence, KeyError)
    assert picture(cache) == before


def test_double_release_of_a_sequence() -> None:
    """The second release is an unknown sequence."""
    cache = make()
    cache.admit(1, range(6))
    cache.release(1)
    with pytest.raises(UnknownSequence, match="released, or never admitted"):
        cache.release(1)
    cache.check_integrity()


def test_live_ids_are_taken() -> None:
    """Admitting or forking onto a live id is a ValueError and changes nothing."""
    cache = make()
    cache.admit(1, range(6))
    cache.admit(2, range(6))
    before = picture(cache)
    for call in (lambda: cache.admit(1, [1]), lambda: cache.fork(1, 2), lambda: cache.fork(1, 1)):
        with pytest.raises(DuplicateSequence, match="is live already"):
            call()
    with pytest.raises(DuplicateSequence, match="named 2 times"):
        cache.append_batch([1, 2, 1], [1, 1, 1])
    assert issubclass(DuplicateSequence, ValueError)
    assert picture(cache) == before


@pytest.mark.parametrize(
    "tokens",
    [
        [2**31],
        [0, -(2**31) - 1],
        [1.5],
        ["a"],
        "text",
        b"text",
        {1, 2},
        {1: 2},
        5,
        None,
        np.array([2**31]),
        np.array([[1]]),
        np.array([0.5]),
    ],
    ids=repr,
)
def test_token_ids_must_fit_int32(tokens: object) -> None:
    """What is no token is refused before anything changes, naming it."""
    cache = make()
    cache.admit(1, range(6))
    before = picture(cache)
    for call in (
        lambda: cache.admit(2, tokens),
        lambda: cache.append(1, tokens),
        lambda: cache.append_batch([1], tokens),
        lambda: cache.lookup(tokens),
    ):
        with pytest.raises(InvalidRequest, match="token"):
            call()
    assert picture(cache) == before


def test_the_offending_token_is_named() -> None:
    """The message has position and value."""
    with pytest.raises(InvalidRequest, match="token 2147483648 at position 2"):
        make().admit(1, [1, 2, 2**31])


@pytest.mark.parametrize(
    "tokens", [np.arange(9, dtype=t) for t in ("i1", "u1", "i4", "i8", "u8")] + [range(9)]
)
def test_token_ids_of_every_integer_type_are_equal(tokens: object) -> None:
    """Tokens are compared by value, whatever type they came in; both ends of int32 are allowed."""
    cache = make()
    cache.admit(1, tuple(range(8)))
    assert cache.lookup(tokens) == 8
    cache.admit(2, [-(2**31), 2**31 - 1])


def test_a_batch_needs_a_token_for_each_sequence() -> None:
    """Different numbers are refused with both."""
    cache = make()
    cache.admit(1, [1])
    with pytest.raises(InvalidRequest, match="1 sequences, but 2 tokens"):
        cache.append_batch([1], [1, 2])


@pytest.mark.parametrize("seq_id", ["a", 1.0, None])
def test_sequence_ids_are_ints(seq_id: object) -> None:
    """Another id is refused."""
    with pytest.raises(InvalidRequest, match="is not an int"):
        make().admit(seq_id, [1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_blocks": 0},
        {"num_blocks": -5},
        {"block_size": 0},
        {"block_size": -16},
        {"block_size": 2.0},
        {"num_blocks": True},
        {"prefix_caching": "no"},
        {"num_blocks": 2**31},
        {"fork_mode": "never"},
        {"prefix_keys": "hash"},
    ],
    ids=repr,
)
def test_settings_are_checked(wrong: dict[str, object]) -> None:
    """A setting that cannot work is a ConfigError that names it and its value."""
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ConfigError, match=rf"{name} is {value!r}"):
        CacheConfig(**{"num_blocks": 8, **wrong})


def test_every_error_is_a_pagedkv_error() -> None:
    """One except clause catches all that is raised on purpose."""
    assert all(
        issubclass(e, PagedKVError) for e in (ConfigError, OutOfBlocks, InvariantError, UnknownSequence)
    )


def test_more_than_the_pool_can_hold() -> None:
    """A request larger than the pool is refused as one that can never be served."""
    cache = make()
    with pytest.raises(OutOfBlocks, match="can never be served"):
        cache.admit(1, range(65))
    assert cache.pool.num_free == 16


def test_a_cached_prefix_does_not_make_an_oversized_request_possible() -> None:
    """The advice is the same whether part of what can never fit is cached or not."""
    cache = make(num_blocks=8)
    cache.admit(1, range(16))
    with pytest.raises(OutOfBlocks, match=r"5 blocks needed, 4 obtainable .* can never be served"):
        cache.admit(2, range(36))


def test_namespaces_are_strings() -> None:
    """Another namespace is refused."""
    for namespace in (None, 5, []):
        with pytest.raises(InvalidRequest, match="must be a str"):
            make().admit(1, [1], namespace=namespace)


@pytest.mark.parametrize("ids", [None, 5, [np.array([1, 2])]], ids=repr)
def test_batches_are_sequences_of_ids(ids: object) -> None:
    """What names no sequences is refused."""
    cache = make()
    cache.admit(1, [1])
    for call in (lambda: cache.append_batch(ids, [1]), lambda: cache.begin_step(ids)):
        with pytest.raises((InvalidRequest, UnknownSequence), match="sequence"):
            call()


# ---- what can be read


def test_tables_are_read_only_rows_of_one_array() -> None:
    """Kernels read the rows that the manager edits."""
    cache = make()
    cache.admit(7, range(6))
    table = cache.block_table(7)
    assert table.dtype == np.int32
    assert cache.block_tables[cache.row(7), :2].tolist() == table.tolist()
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 3


def test_slot_mapping() -> None:
    """Slots are block * block_size + offset; positions outside the sequence are refused."""
    cache = make(prefix_caching=False)
    cache.pool.allocate(2)
    cache.admit(1, range(6))
    assert cache.slot_mapping(1, 2, 6).tolist() == [10, 11, 12, 13]
    with pytest.raises(InvalidRequest, match="positions 0 to 6"):
        cache.slot_mapping(1, 2, 7)


def test_rows_and_tables_grow() -> None:
    """Hundreds of sequences and long ones need no setting."""
    cache = make(num_blocks=2000)
    for seq_id in range(300):
        cache.admit(seq_id, [seq_id])
    cache.admit(300, range(4000))
    cache.append_batch(list(range(301)), [1] * 301)
    assert [int(cache.block_table(i)[0]) for i in range(301)] == list(range(301))
    cache.check_integrity()


def test_fragmentation_counts_shared_slots_once() -> None:
    """4 + 2 + 1 written slots in three blocks of 4, whoever shares them."""
    cache = make(num_blocks=8)
    cache.admit(1, range(6))
    cache.fork(1, 2)
    cache.admit(3, [50])
    told = cache.fragmentation()
    assert told.internal_ratio == pytest.approx(1 - 7 / 12)
    assert told.excess_ratio == pytest.approx(0.5 / 12)
    assert (told.num_free_runs, told.longest_free_run) == (1, 5)
    assert (told.num_table_runs, told.mean_table_run) == (3, pytest.approx(5 / 3))
    assert make().internal_fragmentation() == 0.0


@pytest.mark.parametrize("in_flight", [False, True])
def test_fragmentation_of_a_block_that_is_full_for_another(in_flight: bool) -> None:
    """A block that is full for one of its holders wastes nothing; waiting blocks are all waste."""
    cache = make(num_blocks=8)
    cache.admit(1, range(8))
    cache.fork(1, 2)
    cache.truncate(2, 6)
    assert cache.internal_fragmentation() == 0.0
    if in_flight:
        cache.admit(3, range(100, 108))
        cache.begin_step([3])
        cache.release(3)
        assert cache.internal_fragmentation() == pytest.approx(1 / 2)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_batch_does_what_single_appends_do(data: st.DataObject) -> None:
    """append_batch is append for each, in order, for tables, lengths and prefix cache."""
    one, many = make(num_blocks=64, block_size=2), make(num_blocks=64, block_size=2)
    for cache in (one, many):
        cache.admit(0, [1, 2, 3])
        cache.admit(1, [1, 2, 3, 4])
    for child in range(2, 6):
        parent = data.draw(st.integers(0, child - 1))
        one.fork(parent, child)
        many.fork(parent, child)
    for _ in range(data.draw(st.integers(1, 5))):
        batch = data.draw(st.permutations(range(6)))[: data.draw(st.integers(1, 6))]
        tokens = data.draw(st.lists(st.integers(0, 1), min_size=len(batch), max_size=len(batch)))
        copies = [c for i, t in zip(batch, tokens, strict=True) for c in one.append(i, [t]).copies]
        assert len(many.append_batch(batch, tokens).copies) == len(copies)
    for cache in (one, many):
        cache.check_integrity()
    assert [len(one.block_table(i)) for i in range(6)] == [len(many.block_table(i)) for i in range(6)]
    assert one.num_cached_blocks == many.num_cached_blocks
    assert one.refcount_hist() == many.refcount_hist()


def test_counters_of_a_small_life() -> None:
    """Every number can be checked by hand."""
    cache, counters = make(), Counters()
    cache.events.attach(counters)
    cache.admit(1, range(10))  # 3 blocks, 2 of them full
    cache.fork(1, 2)
    cache.append_batch([1, 2], [7, 8])  # one copy
    cache.truncate(2, 4)
    cache.release(1)
    cache.admit(3, range(10))
    told = counters.as_dict()
    assert told == {
        "batch_size_max": 2,
        "batch_size_sum": 2,
        "blocks_allocated": 5,
        "blocks_freed": 3,
        "blocks_peak": 4,
        "blocks_registered": 2,
        "blocks_revived": 1,
        "blocks_shared": 5,
        "cow_copies": 1,
        "hit_blocks": 2,
        "lookup_blocks": 4,
        "prefix_lookups": 2,
        "ref_count_max": 2,
        "sequences_admitted": 2,
        "sequences_forked": 1,
        "sequences_released": 1,
        "shared_writes": 1,
        "steps": 1,
        "tokens_admitted": 20,
        "tokens_appended": 2,
        "tokens_reused": 8,
        "tokens_truncated": 7,
    }
