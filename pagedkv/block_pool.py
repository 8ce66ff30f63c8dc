"""Who holds which block: allocation, release, sharing, and marks for content worth keeping."""

import copy
from array import array
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int64s, as_block_ids
from pagedkv.errors import (
    InvalidRequest,
    OutOfBlocks,
    UnknownBlock,
)
from pagedkv.events import AllocationFailed, BlocksAllocated, BlocksFreed, BlocksShared, EventStream
from pagedkv.free_queue import FEW, FreeQueue, as_vector, require_equal

__all__ = ["BlockPool"]


class BlockPool(FreeQueue):
    """A pool of `num_blocks` reference-counted blocks with one first-in-first-out free queue.

    Blocks can be marked as cached: they keep that mark while free, count as `num_evictable`, and can be
    taken back by `reuse`. Allocating such a block evicts it: the mark goes, and `on_evict` is told.

    Args:
        num_blocks: size of the pool; ids are 0 .. num_blocks - 1, and the queue starts in that order.
        events: stream to emit to; a stream of its own by default.

    Attributes:
        events: the stream that `BlocksAllocated`, `BlocksFreed`, `BlocksShared` go to.
        on_evict: called with the ids (int64) of the cached blocks among those just handed out.

    Raises:
        InvalidRequest: `num_blocks` is no int, or less than 1.
    """

    def __init__(self, num_blocks: int, *, events: EventStream | None = None) -> None:
        super().__init__(num_blocks)
        self.events = EventStream() if events is None else events
        self.on_evict: Callable[[Int64s], None] | None = None
        self._cached = bytearray(num_blocks)
        self._cached_v = np.frombuffer(self._cached, np.bool_)
        self._caches = False  # whether anything was ever marked as cached
        self._num_evictable = 0

    # ---- what is there

    @property
    def num_blocks(self) -> int:
        """Size of the pool."""
        return self._num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, cached ones included: what `allocate` could hand out now."""
        return self._num_free

    @property
    def num_evictable(self) -> int:
        """Free blocks that are marked as cached."""
        return self._num_evictable

    def ref_count(self, block: int) -> int:
        """References to one block; 0 if it is free.

        Raises:
            UnknownBlock: the id is outside the pool.
        """
        if not 0 <= block < self._num_blocks:
            raise self._unknown(np.array([block]))
        return max(0, self._state[block])

    def ref_counts(self, ids: Iterable[int] | None = None) -> Int64s:
        """Reference count of these blocks, or of every block; 0 for free ones. A vector (int64), a copy.

        Raises:
            UnknownBlock: an id is outside the pool.
        """
        state = self._state_v if ids is None else self._held(as_vector(as_block_ids(ids)))
        return np.maximum(state, 0)

    def num_idle(self, ids: Iterable[int]) -> int:
        """How many of these blocks nobody holds.

        Raises:
            UnknownBlock: an id is outside the pool.
        """
        return int(np.count_nonzero(self._held(as_vector(as_block_ids(ids))) < 0))

    def cached_mask(self) -> npt.NDArray[np.bool_]:
        """Which blocks are marked as cached, in use or idle. Shape `[num_blocks]` (bool), a copy."""
        return self._cached_v.copy()

    def refcount_hist(self) -> dict[str, int]:
        """How many blocks have one, two, or more references, as `{"1": .., "2": .., "3+": ..}`."""
        held = self._state_v[self._state_v > 0]
        one, two = int(np.count_nonzero(held == 1)), int(np.count_nonzero(held == 2))
        return {"1": one, "2": two, "3+": len(held) - one - two}

    def free_runs(self) -> Int64s:
        """Lengths of the maximal runs of free blocks with consecutive ids, in id order. O(num_blocks)."""
        edges = np.flatnonzero(np.diff(self._state_v < 0, prepend=False, append=False))
        return edges[1::2] - edges[::2]

    def free_order(self) -> Int64s:
        """Free blocks in the order in which they will be handed out. O(num_blocks)."""
        positions = np.arange(self._head, self._tail) & self._mask
        window = self._queue_v[positions]
        return np.asarray(window[self._state_v[window] == ~positions])

    def copied(self) -> "BlockPool":
        """The pool as it is now, in arrays of its own, for whoever looks at it later; it tells nobody."""
        other = copy.copy(self)
        other._part()  # noqa: SLF001 - a copy of its own
        return other

    # ---- handing out and taking back

    def allocate(self, n: int = 1) -> "array[int]":
        """Take `n` blocks from the head of the free queue, each with a reference count of 1.

        Returns:
            The block ids in queue order, an `array('q')`: it indexes, slices and concatenates like a list
            of ints, and numpy reads it without a copy.

        Raises:
            InvalidRequest: `n` is negative or no int.
            OutOfBlocks: fewer than `n` blocks are free; none was taken.
        """
        try:
            if not 0 <= n <= self._num_free:
                raise self._refusal(n)
            start = self._head & self._mask
            if self._tail - self._head == self._num_free and start + n <= self._capacity:
                ids = self._queue[start : start + n]
                self._head += n
            else:
                ids, start = self._take_valid(n), -1
        except TypeError:
            raise InvalidRequest(f"asked for {n!r} blocks; the number must be an int") from None
        if n <= FEW:
            state = self._state
            for block in ids:
                state[block] = 1
        else:
            self._state_v[as_vector(ids) if start < 0 else self._queue_v[start : start + n]] = 1
        self._num_free -= n
        num_evicted = self._evict(ids) if self._num_evictable else 0
        if (emit := self.events.emit) is not None:
            emit(BlocksAllocated(n, num_evicted, self._num_free, self._num_blocks))
        return ids

    def free(self, ids: Iterable[int]) -> None:
        """Drop one reference from each block; those without any left join the queue's tail in this order.

        Raises:
            InvalidRequest: `ids` is not a collection of ints.
            UnknownBlock: an id is outside the pool.
            DoubleFree: a block is free already, or is named more than once and has one reference.
            RefCountUnderflow: a block is named more often than it has references.
        """
        if (type(ids) is array or type(ids) is list) and len(ids) <= FEW:
            n = (len(ids) == 1 and self._release_one(ids[0])) or self._release_few(ids)
        else:
            n = self._release_many(as_vector(as_block_ids(ids)))
        num_cached = self._count_cached(self._queued_last(n)) if self._caches else 0
        self._tail += n
        self._num_free += n
        self._num_evictable += num_cached
        if (emit := self.events.emit) is not None:
            emit(BlocksFreed(n, num_cached, self._num_free, self._num_blocks))

    def share(self, ids: Iterable[int]) -> None:
        """Add one reference to each block; an id that occurs twice gains two.

        Raises:
            InvalidRequest: `ids` is not a collection of ints.
            UnknownBlock: an id is outside the pool, or its block is free: it has no owner to share with.
        """
        blocks = as_vector(as_block_ids(ids))
        held = self._held(blocks)
        if np.count_nonzero(held > 0) < len(held):
            raise UnknownBlock(
                f"block {blocks[held.argmin()]} is free, so there is nothing to share; "
                "allocate it, or share it while somebody holds it"
            )
        np.add.at(self._state_v, blocks, 1)
        self._emit_shared(blocks, 0)

    def require(self, n: int, keep: Iterable[int] = ()) -> None:
        """Check that `allocate(n)` would succeed after `reuse(keep)`; changes nothing.

        Raises:
            OutOfBlocks: it would not.
        """
        kept = as_block_ids(keep)
        if n + len(kept) > self._num_free:
            num_idle = self.num_idle(kept)
            if n + num_idle > self._num_free:
                raise self._refusal(n, len(kept), num_idle)

    # ---- blocks with content worth keeping

    def mark_cached(self, ids: Iterable[int]) -> None:
        """Mark blocks in use as holding reusable content.

        Raises:
            UnknownBlock: an id is outside the pool, or its block is free.
        """
        blocks = as_block_ids(ids)
        if len(blocks) <= FEW:
            state, size = self._state, self._num_blocks
            in_use = all([0 <= block < size and state[block] > 0 for block in blocks])  # noqa: C419 - faster
        else:
            in_use = np.minimum.reduce(self._held(as_vector(blocks))) > 0
        if not in_use:
            self._held(as_vector(blocks))
            raise UnknownBlock(
                f"only blocks in use can be marked as cached; one of {blocks.tolist()} is free"
            )
        self._caches = True
        self._cached_v[as_vector(blocks)] = True

    def unmark_cached(self, ids: Iterable[int]) -> None:
        """Forget that these blocks hold reusable content; free ones stay where they are in the queue.

        Raises:
            UnknownBlock: an id is outside the pool.
        """
        blocks = as_vector(as_block_ids(ids))
        idle = blocks[(self._held(blocks) < 0) & self._cached_v[blocks]]
        self._cached_v[blocks] = False
        self._num_evictable -= len(set(idle.tolist())) if len(idle) <= FEW else len(np.unique(idle))

    def reuse(self, ids: Iterable[int]) -> None:
        """Add one reference to each of these distinct cached blocks; idle ones leave the free queue.

        O(blocks named), wherever in the queue they stand.

        Raises:
            InvalidRequest: an id occurs twice.
            UnknownBlock: an id is outside the pool, or its block is not marked as cached.
        """
        blocks = as_vector(as_block_ids(ids))
        held = self._held(blocks)
        if np.count_nonzero(self._cached_v[blocks]) < len(blocks):
            raise UnknownBlock(f"only cached blocks can be reused; one of {blocks.tolist()} is not")
        self._mark_distinct(blocks, held)
        self._state_v[blocks] = np.maximum(held, 0) + 1
        num_idle = int(np.count_nonzero(held < 0))
        self._num_free -= num_idle
        self._num_evictable -= num_idle
        self._emit_shared(blocks, num_idle)

    # ---- proof

    def check_integrity(self) -> None:
        """Check that every block is either held or queued exactly once. O(num_blocks).

        Raises:
            InvariantError: with what was expected and what was found.
        """
        self._check_queue()
        idle_cached = int(np.count_nonzero(self._cached_v & (self._state_v < 0)))
        require_equal("free cached blocks, against num_evictable", idle_cached, self._num_evictable)

    # ---- how

    def _part(self) -> None:
        """Have nothing in common any more with what this is a copy of."""
        self.events, self.on_evict = EventStream(), None
        self._queue, self._state = self._queue[:], self._state[:]
        self._queue_v, self._state_v = as_vector(self._queue), as_vector(self._state)
        self._cached = bytearray(self._cached)
        self._cached_v = np.frombuffer(self._cached, np.bool_)

    def _evict(self, ids: "array[int]") -> int:
        """Take the mark from the cached blocks among those just handed out; returns how many they were."""
        num_cached = self._count_cached(ids)
        if num_cached:
            blocks = as_vector(ids)
            evicted = blocks[self._cached_v[blocks]]
            self._cached_v[evicted] = False
            self._num_evictable -= num_cached
            if self.on_evict is not None:
                try:
                    self.on_evict(evicted)
                except BaseException:  # an interrupt, say: nobody has the blocks
                    self.free(ids)
                    raise
        return num_cached

    def _queued_last(self, n: int) -> "array[int]":
        """The `n` entries that were just written behind the tail."""
        start = self._tail & self._mask
        return self._queue[start : start + n] + self._queue[: max(0, start + n - self._capacity)]

    def _count_cached(self, ids: "array[int]") -> int:
        if len(ids) <= FEW:
            return sum(map(self._cached.__getitem__, ids))
        return int(np.count_nonzero(self._cached_v[as_vector(ids)]))

    def _mark_distinct(self, blocks: Int64s, held: Int64s) -> None:
        """Write a different state to each block, to see that each is named once; `held` is what it was."""
        marks = self._marks[: len(blocks)]
        self._state_v[blocks] = marks
        if not marks.tobytes().startswith(self._state_v[blocks].data):
            self._state_v[blocks] = held
            raise InvalidRequest(f"each block can be reused once in a call; {blocks.tolist()} repeats one")

    def _emit_shared(self, blocks: Int64s, num_revived: int) -> None:
        if (emit := self.events.emit) is not None and len(blocks):
            highest = int(self._state_v[blocks].max())
            emit(BlocksShared(len(blocks), num_revived, highest, self._num_free, self._num_blocks))

    def _refusal(self, n: int, num_kept: int = 0, num_kept_idle: int = 0) -> Exception:
        """Why `n` blocks cannot be had beside `num_kept` others, of which some are still in the queue."""
        if not isinstance(n, (int, np.integer)):
            raise TypeError
        if n < 0:
            return InvalidRequest(f"asked for {n} blocks; the number must not be negative")
        free = self._num_free - self._num_evictable
        evictable = self._num_evictable - num_kept_idle
        if (emit := self.events.emit) is not None:
            emit(AllocationFailed(n, free, evictable))
        never = f"the pool has {self._num_blocks} blocks in all, so this can never be served"
        return OutOfBlocks(n, free, evictable, never if n + num_kept > self._num_blocks else "")
