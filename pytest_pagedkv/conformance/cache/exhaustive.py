"""Every program up to a small depth on a pool of three blocks: the small scope is proven, not sampled.

Sequence ids and token values mean nothing to a cache, so programs that differ only by renaming them count
once: a new sequence gets the lowest id that is not live, and the first prompt begins with token 0.
"""

from collections.abc import Iterator
from typing import Any

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks
from pytest_pagedkv.conformance.cache.checked import CheckedCache
from pytest_pagedkv.conformance.cache.known import is_known
from pytest_pagedkv.conformance.cache.making import check_class, make_adapter
from pytest_pagedkv.conformance.cache.scenarios import Reached
from pytest_pagedkv.conformance.cache.shrink import shrink
from pytest_pagedkv.conformance.violation import InvariantViolation
from pytest_pagedkv.conformance.watch import Watch

__all__ = ["explore"]

_NUM_BLOCKS = 3
_MAX_LIVE = 3
_Call = tuple[Any, ...]
_PROMPTS = ((0,), (0, 0), (0, 1), (0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0, 0), (1, 0, 0), (0,) * 7)
"""For blocks of two: partly and just filled blocks, prefixes of each other, equal and other tokens in the
last slot, and one that is larger than the pool."""
_APPENDS = ((0,), (1,), (0, 0))


def explore(adapter: type[KVCacheAdapter], depth: int, watch: Watch) -> Reached:
    """Run every program of `depth` calls, each call verified.

    Args:
        adapter: the class under test; its pools have three blocks besides what it reserves.
        depth: calls in a program.
        watch: the time limit for a call.

    Returns:
        How many programs and calls that were.

    Raises:
        InvariantViolation: with the shortest program of those that fail.
    """
    check_class(adapter)
    reached = Reached()
    try:
        with watch.running():
            explorer = _Explorer(adapter, watch, reached)
            for deepest in range(1, depth + 1):  # the shortest failure comes first
                reached.programs = reached.operations = 0
                explorer.visit([], explorer.replayed([]), deepest)
    except InvariantViolation as violation:
        with watch.running():
            smallest = shrink(adapter, violation, watch)
        raise smallest from smallest.__cause__
    return reached


class _Explorer:
    """Depth-first search over calls."""

    def __init__(self, adapter: type[KVCacheAdapter], watch: Watch, reached: Reached) -> None:
        self._adapter = adapter
        self._watch = watch
        self._reached = reached
        self._block_size = 2 if 2 in adapter.block_sizes else min(adapter.block_sizes)
        spare = make_adapter(adapter, _NUM_BLOCKS, self._block_size, watch)
        self._num_blocks = 2 * _NUM_BLOCKS - spare.usable_blocks

    def visit(self, path: list[_Call], cache: CheckedCache, depth: int) -> None:
        """Run every program that begins with a path, which has been run on the cache."""
        for call in self._choices(cache, is_first=not path):
            branch = self._branched(path, cache)
            if not self._succeeds(branch, call):
                continue
            if depth == 1:
                self._reached.programs += 1
            else:
                self.visit([*path, call], branch, depth - 1)

    def replayed(self, path: list[_Call]) -> CheckedCache:
        """A checked cache on which a path has been run."""
        cache = CheckedCache(self._made(), watch=self._watch)
        for call in path:
            _make(cache, call)
        return cache

    def _made(self) -> KVCacheAdapter:
        return make_adapter(self._adapter, self._num_blocks, self._block_size, self._watch)

    def _branched(self, path: list[_Call], cache: CheckedCache) -> CheckedCache:
        """The same state once more. What was verified once is not verified again."""
        adapter = self._made()
        for call in path:
            _make(adapter, call)
        if all(tuple(adapter.block_table(seq_id)) == live.table for seq_id, live in cache.live.items()):
            return cache.continued_on(adapter)
        return self.replayed(path)  # an engine that places blocks differently from run to run

    def _succeeds(self, cache: CheckedCache, call: _Call) -> bool:
        """Make a call; False if it breaks something that is known, so that what follows says nothing."""
        self._reached.operations += 1
        try:
            _make(cache, call)
        except InvariantViolation as violation:
            if not is_known(self._adapter, violation):
                raise
            self._reached.scenarios[f"known: {violation.invariant}"] += 1
            return False
        return True

    def _choices(self, cache: CheckedCache, *, is_first: bool) -> Iterator[_Call]:
        """The calls that a program may go on with."""
        features = self._adapter.features
        new_id = next(seq_id for seq_id in range(_MAX_LIVE + 1) if seq_id not in cache.live)
        has_room = len(cache.live) < _MAX_LIVE
        if has_room:
            yield from (("admit", new_id, self._scaled(p)) for p in _PROMPTS if not (is_first and p[0]))
        if Feature.RESET in features and not is_first:
            yield ("reset_prefix_cache",)
        for seq_id, live in list(cache.live.items()):
            yield ("release", seq_id)
            if live.is_swapped:
                yield ("swap_in", seq_id)
                continue
            yield from (("append", seq_id, tokens) for tokens in _APPENDS)
            if Feature.TRUNCATE in features:
                yield from (("truncate", seq_id, stop) for stop in range(1, len(live.identities)))
            if Feature.FORK in features and has_room:
                yield ("fork", seq_id, new_id)
            if Feature.SWAP in features:
                yield ("swap_out", seq_id)

    def _scaled(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        """A prompt for blocks of two, for blocks of another size."""
        if self._block_size == 2:
            return prompt
        size = self._block_size
        length = len(prompt) // 2 * size + len(prompt) % 2
        return (*prompt[:1], *(0,) * (length - 2), *prompt[-1:])[:length]


def _make(cache: CheckedCache | KVCacheAdapter, call: _Call) -> None:
    """Make a call, which may be refused."""
    name, *arguments = call
    try:
        getattr(cache, name)(*arguments)
    except OutOfBlocks:
        return
