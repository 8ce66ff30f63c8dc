"""What is timed of `pagedkv`."""

import gc
from collections.abc import Callable, Sequence

from pagedkv import BlockManager, BlockPool, CacheConfig
from tests.measure.prompts import (
    BLOCK_SIZE,
    NUM_BLOCKS,
    PROMPT_TOKENS,
    Int32s,
    Prompts,
    decode_prompts,
    warm_prompts,
)
from tests.measure.race import Work

__all__ = [
    "AllocateFree",
    "Build",
    "ColdAdmit",
    "Collect",
    "DecodeSteps",
    "Readmit",
    "WarmLookup",
    "block_manager",
]

_SEQ_ID = 0
_NUM_PER_ROUND = 16


def block_manager(num_blocks: int = NUM_BLOCKS, *, prefix_caching: bool = True) -> BlockManager:
    """A cache as the comparison uses it."""
    return BlockManager(
        CacheConfig(num_blocks=num_blocks, block_size=BLOCK_SIZE, prefix_caching=prefix_caching)
    )


def shaped(prompts: Sequence[Int32s], *, as_list: bool) -> "list[list[int] | Int32s]":
    """The prompts as lists of ints, or as the int32 arrays that they are."""
    return [prompt.tolist() if as_list else prompt for prompt in prompts]


def fill_with_cached(cache: BlockManager, prompts: Prompts, num_tokens: int) -> None:
    """Admit and release prompts until every free block holds cached content."""
    while cache.pool.num_evictable < cache.pool.num_blocks - num_tokens // BLOCK_SIZE:
        cache.admit(_SEQ_ID, prompts.one(num_tokens))
        cache.release(_SEQ_ID)


class AllocateFree(Work):
    """`allocate(n)`, then `free` of the same blocks. Runs through the whole free queue at least once."""

    def __init__(self, n: int, num_blocks: int = NUM_BLOCKS, num_ops: int = 0) -> None:
        self._pool = BlockPool(num_blocks=num_blocks)
        self._n = n
        self.num_ops = num_ops or -(-num_blocks // n)

    def run(self) -> None:
        """Allocate and free, over and over."""
        allocate, free, n = self._pool.allocate, self._pool.free, self._n
        for _ in range(self.num_ops):
            free(allocate(n))


class DecodeSteps(Work):
    """`append_batch` for all sequences of a batch, two blocks' worth of steps.

    Args:
        as_list: sampled tokens come as lists of ints instead of arrays.
        rotate: the batch has another order in every step, so nothing can be kept from the step before.
        num_blocks: size of the pool.
        prompts: those of the batch; by default the ones that every contestant gets.
        evicting: the batch is admitted anew before every round, and all free blocks hold cached content.
    """

    num_ops = 2 * BLOCK_SIZE

    def __init__(
        self,
        *,
        as_list: bool = True,
        rotate: bool = False,
        prefix_caching: bool = True,
        num_blocks: int = NUM_BLOCKS,
        prompts: Sequence[Int32s] | None = None,
        evicting: bool = False,
    ) -> None:
        self._cache = block_manager(num_blocks, prefix_caching=prefix_caching)
        self._prompts = decode_prompts() if prompts is None else prompts
        self._as_list, self._evicting = as_list, evicting
        ids = list(range(len(self._prompts)))
        self._orders = [ids[i:] + ids[:i] if rotate else ids for i in range(self.num_ops)]
        self._source = Prompts(seed=3)
        self._steps: list[list[int] | Int32s] = []
        if evicting:
            fill_with_cached(self._cache, self._source, PROMPT_TOKENS // 8)
        self._admit_all()

    def prepare(self) -> None:
        """Sample the tokens of the steps."""
        if self._evicting:
            for seq_id in self._cache.seq_ids():
                self._cache.release(seq_id)
            self._admit_all()
        self._steps = shaped(self._source.many(self.num_ops, len(self._prompts)), as_list=self._as_list)

    def run(self) -> None:
        """Book the steps."""
        append_batch = self._cache.append_batch
        for seq_ids, tokens in zip(self._orders, self._steps, strict=True):
            append_batch(seq_ids, tokens)

    def _admit_all(self) -> None:
        for seq_id, prompt in enumerate(self._prompts):
            self._cache.admit(seq_id, prompt)


class WarmLookup(Work):
    """`lookup` of a cached prompt, from its tokens."""

    num_ops = _NUM_PER_ROUND

    def __init__(self, *, as_list: bool, divided: bool = False) -> None:
        self._cache = block_manager()
        prompts = warm_prompts(divided=divided)
        for prompt in prompts:
            self._cache.admit(_SEQ_ID, prompt)
            self._cache.release(_SEQ_ID)
        self._prompt = shaped(prompts[:1], as_list=as_list)[0]
        _require(self._cache.lookup(self._prompt), PROMPT_TOKENS - BLOCK_SIZE)

    def run(self) -> None:
        """Look the prompt up."""
        lookup, prompt = self._cache.lookup, self._prompt
        for _ in range(self.num_ops):
            lookup(prompt)


class ColdAdmit(Work):
    """`admit` and `release` of prompts that were never seen: match, allocate, register, free."""

    num_ops = _NUM_PER_ROUND

    def __init__(
        self,
        *,
        as_list: bool,
        evicting: bool,
        num_blocks: int = NUM_BLOCKS,
        num_tokens: int = PROMPT_TOKENS,
    ) -> None:
        self._cache = block_manager(num_blocks)
        self._source = Prompts(seed=4)
        self._as_list, self._evicting, self._num_tokens = as_list, evicting, num_tokens
        self._prompts: list[list[int] | Int32s] = []
        if evicting:
            fill_with_cached(self._cache, self._source, num_tokens)

    def prepare(self) -> None:
        """Make new prompts; and room for them, unless they are to evict."""
        if not self._evicting:
            self._cache.reset_prefix_cache()
        self._prompts = shaped(self._source.many(self.num_ops, self._num_tokens), as_list=self._as_list)

    def run(self) -> None:
        """Admit and release each."""
        admit, release = self._cache.admit, self._cache.release
        for prompt in self._prompts:
            admit(_SEQ_ID, prompt)
            release(_SEQ_ID)


class Readmit(Work):
    """`admit` and `release` of prompts that are cached and idle."""

    num_ops = _NUM_PER_ROUND

    def __init__(
        self,
        *,
        as_list: bool,
        num_blocks: int = NUM_BLOCKS,
        num_tokens: int = PROMPT_TOKENS,
        full_pool: bool = False,
    ) -> None:
        self._cache = block_manager(num_blocks)
        source = Prompts(seed=5)
        if full_pool:
            fill_with_cached(self._cache, source, num_tokens)
        self._prompts = shaped(source.many(self.num_ops, num_tokens), as_list=as_list)
        self.run()
        for prompt in self._prompts:
            _require(self._cache.lookup(prompt), num_tokens - BLOCK_SIZE)

    def run(self) -> None:
        """Admit and release each."""
        admit, release = self._cache.admit, self._cache.release
        for prompt in self._prompts:
            admit(_SEQ_ID, prompt)
            release(_SEQ_ID)


class Build(Work):
    """Making something big, and nothing else."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: object = None

    def run(self) -> None:
        """Make it."""
        self._made = self._make()

    def finish(self) -> None:
        """Drop it, cycles and all."""
        self._made = None
        gc.collect()


class Collect(Work):
    """One full garbage collection while something big is alive."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: object = None

    def prepare(self) -> None:
        """Make it."""
        self._made = self._make()
        gc.collect()

    def run(self) -> None:
        """Collect."""
        gc.collect()

    def finish(self) -> None:
        """Drop it, cycles and all."""
        self._made = None
        gc.collect()


def _require(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(
            f"a look-up found {found} tokens, expected {expected}: the comparison would be void"
        )
