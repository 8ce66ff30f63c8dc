"""The block manager against shadow memory, over random programs that shrink."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagedkv import BlockManager, CacheConfig
from pagedkv.errors import OutOfBlocks
from tests.block_manager.shadow import ShadowedCache
from tests.examples import examples

TOKENS = st.integers(0, 1)  # a tiny alphabet, so that prefixes meet
BLOCK_SIZE = 3


def lengths(draw: st.DrawFn, longest: int) -> int:
    """A length that is on, one before or one behind a block boundary more often than not."""
    near = draw(st.integers(0, longest // BLOCK_SIZE)) * BLOCK_SIZE + draw(st.integers(-1, 1))
    return max(1, draw(st.sampled_from([near, draw(st.integers(1, longest))])))


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """A prompt of a few blocks."""
    n = lengths(draw, 4 * BLOCK_SIZE)
    return draw(st.lists(TOKENS, min_size=n, max_size=n))


class CacheMachine(RuleBasedStateMachine):
    """Random sequences of every operation on a small pool."""

    fork_mode = "lazy"
    prefix_caching = True

    def __init__(self) -> None:
        super().__init__()
        config = CacheConfig(
            num_blocks=10, block_size=BLOCK_SIZE, fork_mode=self.fork_mode, prefix_caching=self.prefix_caching
        )
        self.cache = ShadowedCache(BlockManager(config))
        self.next_id = 0
        self.steps: dict[int, set[int]] = {}  # in flight, with the blocks that they read

    def picture(self) -> object:
        """All of the observable state."""
        cache = self.cache.cache
        tables = [cache.block_table(i).tolist() for i in cache.seq_ids()]
        return tables, cache.pool.num_free, cache.pool.ref_counts().tolist(), cache.num_cached_blocks

    def attempt(self, operation: object, *args: object) -> bool:
        """Run an operation that may lack room; if it does, nothing has changed."""
        before = self.picture()
        try:
            operation(*args)
        except OutOfBlocks as error:
            assert error.needed > error.free + error.evictable
            assert self.picture() == before
            return False
        return True

    def live(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.cache.tokens)))

    @rule(prompt=prompts(), namespace=st.sampled_from(["", "", "", "other"]))
    def admit(self, prompt: list[int], namespace: str) -> None:
        self.next_id += 1
        self.attempt(self.cache.admit, self.next_id, prompt, namespace)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data(), tokens=st.lists(TOKENS, min_size=1, max_size=2 * BLOCK_SIZE))
    def append(self, data: st.DataObject, tokens: list[int]) -> None:
        self.attempt(self.cache.append, self.live(data), tokens)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(st.sampled_from(sorted(self.cache.tokens)), min_size=1, unique=True))
        tokens = data.draw(st.lists(TOKENS, min_size=len(batch), max_size=len(batch)))
        self.attempt(self.cache.append_batch, batch, tokens)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        self.next_id += 1
        self.attempt(self.cache.fork, self.live(data), self.next_id)

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        seq_id = self.live(data)
        self.cache.truncate(seq_id, data.draw(st.integers(0, len(self.cache.tokens[seq_id]))))

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.cache.release(self.live(data))

    @precondition(lambda self: self.cache.tokens)
    @rule(data=st.data())
    def begin_step(self, data: st.DataObject) -> None:
        batch = data.draw(st.lists(st.sampled_from(sorted(self.cache.tokens)), min_size=1, unique=True))
        cache = self.cache.cache
        self.steps[cache.begin_step(batch)] = {b for i in batch for b in cache.block_table(i).tolist()}

    @precondition(lambda self: self.steps)
    @rule(data=st.data())
    def retire_step(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.steps)))
        self.cache.cache.retire_step(step)
        self.steps = {s: blocks for s, blocks in self.steps.items() if s > step}

    @rule()
    def reset(self) -> None:
        self.cache.cache.reset_prefix_cache()
        assert self.cache.cache.num_cached_blocks == 0

    @invariant()
    def sound(self) -> None:
        self.cache.check()

    @invariant()
    def in_flight_blocks_stay(self) -> None:
        counts = self.cache.cache.pool.ref_counts()
        for step, blocks in self.steps.items():
            for block in blocks:
                assert counts[block] > 0, f"block {block} is free while step {step} reads it"

    def teardown(self) -> None:
        """After everything is released, every block comes home and one request can have the whole pool."""
        cache = self.cache.cache
        for seq_id in list(self.cache.tokens):
            self.cache.release(seq_id)
        if self.steps:
            cache.retire_step(max(self.steps))
        assert cache.pool.num_free == cache.pool.num_blocks
        assert cache.num_deferred_blocks == 0
        self.cache.admit(-1, [7] * (cache.pool.num_blocks * BLOCK_SIZE))
        self.cache.check()


class ReadyIdsMachine(RuleBasedStateMachine):
    """Ready ids: an id is hit only while its block holds what was there when it was registered."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = BlockManager(CacheConfig(num_blocks=8, block_size=2, prefix_keys="ids"))
        self.content: dict[int, str] = {}  # by block: the id of what was written there
        self.live: dict[int, int] = {}  # length
        self.next_id = 0

    @rule(family=st.sampled_from("ab"), num_tokens=st.integers(1, 9))
    def admit(self, family: str, num_tokens: int) -> None:
        self.next_id += 1
        ids = [f"{family}{i}" for i in range(-(-num_tokens // 2))]
        try:
            cached = self.cache.admit_keys(self.next_id, ids, num_prompt_tokens=num_tokens).num_cached_tokens
        except OutOfBlocks:
            return
        self.live[self.next_id] = num_tokens
        for i, block in enumerate(self.cache.block_table(self.next_id).tolist()):
            if i < cached // 2:
                assert self.content[block] == ids[i]
            else:
                self.content[block] = ids[i]

    @precondition(lambda self: self.live)
    @rule(data=st.data(), num_tokens=st.integers(1, 5), cut=st.booleans())
    def grow(self, data: st.DataObject, num_tokens: int, cut: bool) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        if cut:
            self.live[seq_id] = data.draw(st.integers(0, self.live[seq_id]))
            self.cache.truncate(seq_id, self.live[seq_id])
        first = self.live[seq_id] // 2
        try:
            self.cache.append(seq_id, [0] * num_tokens)
        except OutOfBlocks:
            return
        self.live[seq_id] += num_tokens
        for block in self.cache.block_table(seq_id).tolist()[first:]:
            self.content[block] = "output"

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from(sorted(self.live)))
        self.next_id += 1
        self.cache.fork(parent, self.next_id)
        self.live[self.next_id] = self.live[parent]

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        self.cache.release(seq_id)
        del self.live[seq_id]

    @invariant()
    def sound(self) -> None:
        self.cache.check_integrity()


class EagerMachine(CacheMachine):
    """Forks that copy at once."""

    fork_mode = "eager"


class FullBlocksMachine(CacheMachine):
    """Forks that share full blocks only."""

    fork_mode = "full_blocks"


class UncachedMachine(CacheMachine):
    """No prefix cache."""

    prefix_caching = False


@pytest.mark.parametrize(
    "machine",
    [CacheMachine, EagerMachine, FullBlocksMachine, UncachedMachine, ReadyIdsMachine],
    ids=lambda m: m.__name__,
)
def test_random_programs(machine: type[RuleBasedStateMachine]) -> None:
    """Whatever is done in whatever order, each sequence reads its own KV and no block is lost."""
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
    )
