"""Faults in which block is handed out next, and in what that does to the index."""

from collections.abc import Sequence

from pytest_pagedkv.conformance.cache.selftest.faults.bases import TrustingCache
from pytest_pagedkv.conformance.cache.selftest.faults.fault import Kind
from pytest_pagedkv.conformance.cache.selftest.reference import ReferenceCache

__all__ = ["EVICTION"]

EVICTION = Kind("eviction")


@EVICTION.breaks("no-alias", like="vLLM PR #10507, #39702, #44409")
class HitEvictedByItsRequest(ReferenceCache):
    """A request takes its new blocks before it holds on to those that it hits, and may evict them."""

    def _claim(self, hits: list[int], num_new: int) -> list[int]:
        new = self._take(num_new)
        self._acquire(hits)
        return hits + new


@EVICTION.breaks("hit-soundness", like="nano-vllm #163, vLLM PR #5364")
class EvictedStaysInIndex(TrustingCache):
    """An evicted block is still found by what it held."""

    def _evict(self) -> int:
        return self._idle.popitem(last=False)[0]


@EVICTION.breaks("eviction-order")
class EvictsHeadFirst(ReferenceCache):
    """A released sequence loses its first block first, and what is left of it can never hit."""

    def _give_back(self, blocks: Sequence[int]) -> None:
        super()._give_back(blocks[::-1])


@EVICTION.breaks("eviction-order")
class EvictsNewestFirst(ReferenceCache):
    """The prefix that was used last is evicted first."""

    def _evict(self) -> int:
        self._idle.move_to_end(next(reversed(self._idle)), last=False)
        return super()._evict()


@EVICTION.breaks("eviction-order")
class EvictsByAge(ReferenceCache):
    """The prefix that was written first is evicted first, however often it is used."""

    def _evict(self) -> int:
        oldest = next(block for block in self._entries if block in self._idle)
        self._idle.move_to_end(oldest, last=False)
        return super()._evict()


@EVICTION.breaks("eviction-order", like="transformers 5.23, continuous batching")
class EvictsWholeCache(ReferenceCache):
    """One eviction drops every idle prefix."""

    def _evict(self) -> int:
        while len(self._idle) > 1:
            self._blank.append(super()._evict())
        return super()._evict()


@EVICTION.breaks("eviction-order", like="SGLang #4987: eviction without bound")
class EvictsOneTooMany(ReferenceCache):
    """Two prefixes go where one block is needed."""

    def _evict(self) -> int:
        if len(self._idle) > 1:
            self._blank.append(super()._evict())
        return super()._evict()


@EVICTION.breaks("eviction-order")
class EvictsBeforeBlankOnes(ReferenceCache):
    """Cached blocks are evicted while blank ones are left."""

    def _next_block(self) -> int:
        return self._evict() if self._idle else super()._next_block()
