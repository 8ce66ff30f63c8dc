"""A long random life of one cache: the books balance all along, and everything comes home at the end."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from pagedkv import BlockManager, CacheConfig
from pagedkv.errors import OutOfBlocks
from pagedkv.stats import Counters

__all__ = ["Soak", "SoakResult"]

_ALPHABET = 3  # few tokens, so that prefixes collide all the time
_NUM_STEMS = 6  # what prompts begin with
_MAX_PROMPT = 160
_MAX_LIVE = 96
_MAX_IN_FLIGHT = 3
_NAMESPACES = ("", "a")


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What a soak has seen.

    Attributes:
        seconds: CPU seconds, checks included.
        num_checks: integrity checks passed.
        operations: operations by name.
        counters: what the cache's events add up to: hits, copies, evictions, refusals.
    """

    seconds: float
    num_checks: int
    operations: dict[str, int]
    counters: dict[str, int]

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return asdict(self)


class Soak:
    """Random operations on a small cache, under constant pressure to evict.

    Args:
        num_blocks: size of the pool.
        block_size: tokens in a block.
        seed: of the operations.
    """

    def __init__(self, num_blocks: int = 512, block_size: int = 4, seed: int = 0) -> None:
        self.cache = BlockManager(CacheConfig(num_blocks=num_blocks, block_size=block_size))
        self._rng = np.random.default_rng(seed)
        self._stems = self._rng.integers(0, _ALPHABET, (_NUM_STEMS, _MAX_PROMPT)).tolist()
        self._live: list[int] = []
        self._in_flight: list[int] = []
        self._next_id = 0
        self._num_done = 0
        self._num_checks = 0
        self._names: Counter[str] = Counter()
        self._counters = Counters()
        self.cache.events.attach(self._counters)
        self._weights = {
            self._step: 35,
            self._retire: 15,
            self._admit: 20,
            self._append: 10,
            self._fork: 8,
            self._truncate: 6,
            self._release: 6,
        }

    def run(
        self, num_ops: int = 1_000_000, check_every: int = 10_000, tick: Callable[[int], object] = int
    ) -> SoakResult:
        """Do the operations, check now and then, release everything, and check that nothing is lost.

        Args:
            num_ops: operations.
            check_every: operations between two integrity checks.
            tick: called with the number of operations done since the last time.

        Raises:
            InvariantError: the books do not balance.
            RuntimeError: blocks are missing at the end.
        """
        start = time.process_time()
        while self._num_done < num_ops:
            num_next = min(check_every, num_ops - self._num_done)
            self._do(num_next)
            self._check()
            tick(num_next)
        self._come_home()
        return SoakResult(
            time.process_time() - start, self._num_checks, dict(self._names), self._counters.as_dict()
        )

    def _do(self, num_ops: int) -> None:
        operations = list(self._weights)
        shares = np.array(list(self._weights.values())) / sum(self._weights.values())
        for choice in self._rng.choice(len(operations), num_ops, p=shares).tolist():
            operation = operations[choice]
            self._names[operation.__name__.strip("_")] += 1
            try:
                operation()
            except OutOfBlocks:
                self._relieve()
        self._num_done += num_ops

    def _relieve(self) -> None:
        """Make room: let a step end that may hold blocks of the dead, or else end a sequence."""
        if self.cache.num_deferred_blocks:
            self._retire()
        else:
            self._release()

    def _check(self) -> None:
        self.cache.check_integrity()
        self._num_checks += 1

    def _come_home(self) -> None:
        """Release everything, and take the whole pool once."""
        cache = self.cache
        for seq_id in self._live:
            cache.release(seq_id)
        if self._in_flight:
            cache.retire_step(self._in_flight[-1])
        self._check()
        pool = cache.pool
        found = {
            "free": (pool.num_free, pool.num_blocks),
            "live sequences": (cache.num_sequences, 0),
            "deferred": (cache.num_deferred_blocks, 0),
            "evictable, against cached": (pool.num_evictable, cache.num_cached_blocks),
            "distinct blocks in a request for the whole pool": (
                len(set(pool.allocate(pool.num_blocks))),
                pool.num_blocks,
            ),
            "still cached behind it": (cache.num_cached_blocks, 0),
        }
        if wrong := {name: pair for name, pair in found.items() if pair[0] != pair[1]}:
            raise RuntimeError(f"after {self._num_done} operations (found, expected): {wrong}")

    # ---- operations

    def _admit(self) -> None:
        if len(self._live) < _MAX_LIVE:
            namespace = _NAMESPACES[self._below(len(_NAMESPACES))]
            self.cache.admit(self._next_id, self._prompt(), namespace)
            self._add()

    def _step(self) -> None:
        """A decode step of some sequences; it stays in flight until it is retired."""
        if not self._live:
            return
        size = 1 + self._below(len(self._live))
        batch = self._rng.permutation(np.array(self._live))[:size].tolist()
        self.cache.append_batch(batch, self._rng.integers(0, _ALPHABET, size))
        self._in_flight.append(self.cache.begin_step(batch))
        if len(self._in_flight) > _MAX_IN_FLIGHT:
            self._retire()

    def _retire(self) -> None:
        if self._in_flight:
            self.cache.retire_step(self._in_flight.pop(0))

    def _append(self) -> None:
        if self._live:
            self.cache.append(self._any(), self._tokens(24))

    def _fork(self) -> None:
        if self._live and len(self._live) < _MAX_LIVE:
            self.cache.fork(self._any(), self._next_id)
            self._add()

    def _truncate(self) -> None:
        if self._live:
            seq_id = self._any()
            self.cache.truncate(seq_id, self._below(self.cache.num_tokens(seq_id) + 1))

    def _release(self) -> None:
        if self._live:
            self.cache.release(self._live.pop(self._below(len(self._live))))

    # ---- chance

    def _add(self) -> None:
        self._live.append(self._next_id)
        self._next_id += 1

    def _any(self) -> int:
        return self._live[self._below(len(self._live))]

    def _below(self, limit: int) -> int:
        return int(self._rng.integers(0, limit))

    def _prompt(self) -> list[int]:
        """Some of the beginning that many prompts share, and an end of its own."""
        stem = self._stems[self._below(_NUM_STEMS)]
        return [*stem[: self._below(_MAX_PROMPT)], *self._tokens(12)]

    def _tokens(self, most: int) -> list[int]:
        tokens: list[int] = self._rng.integers(0, _ALPHABET, 1 + self._below(most)).tolist()
        return tokens
