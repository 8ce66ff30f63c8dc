"""Who holds which block: reference counts and the free queue, as arrays.

A block is an int. Two arrays say everything:

    queue   block ids in the order in which they became free: allocation takes from the head, release
            appends at the tail. A block that is taken back from the middle leaves its entry behind, stale.
    state   per block: the reference count while it is held (>= 1), or ~position of its one valid queue
            entry while it is free (< 0).

The entry at position p is valid if and only if state[queue[p]] == ~p. So a cached block is taken back from
anywhere by writing one number, stale entries are skipped when the head reaches them, and the queue is
compacted at most once per `num_blocks` releases: every operation is amortised O(blocks it names), whatever
the size of the pool. Small requests walk the arrays item by item, large ones as numpy vectors over the same
memory.
"""

from array import array
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int64s, as_block_ids, two_views
from pagedkv.errors import (
    DoubleFree,
    InvalidRequest,
    InvariantError,
    OutOfBlocks,
    RefCountUnderflow,
    UnknownBlock,
)
from pagedkv.events import AllocationFailed, BlocksAllocated, BlocksFreed, BlocksShared, EventStream

__all__ = ["BlockPool"]

_FEW = 16  # up to here a Python loop beats the fixed cost of numpy calls


class BlockPool:
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
        if isinstance(num_blocks, bool) or not isinstance(num_blocks, int) or num_blocks < 1:
            raise InvalidRequest(f"num_blocks is {num_blocks!r}; a pool needs an int of at least 1")
        capacity = 2 * num_blocks + _FEW
        self.events = EventStream() if events is None else events
        self.on_evict: Callable[[Int64s], None] | None = None
        self._num_blocks = num_blocks
        self._marks = ~np.arange(capacity, dtype=np.int64)  # state of the block whose valid entry is at [p]
        self._capacity = capacity
        self._ones = np.ones(num_blocks, dtype=np.int64).tobytes()
        self._queue, self._queue_v = two_views(~self._marks)
        self._state, self._state_v = two_views(self._marks[:num_blocks])
        self._cached = bytearray(num_blocks)
        self._cached_v = np.frombuffer(self._cached, np.bool_)
        self._caches = False  # whether anything was ever marked as cached
        self._head = 0
        self._tail = num_blocks
        self._num_free = num_blocks
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

    def ref_counts(self) -> Int64s:
        """Reference count of every block, 0 for free ones. Shape `[num_blocks]` (int64), a copy."""
        return np.maximum(self._state_v, 0)

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
        head = self._head
        try:
            if not 0 <= n <= self._num_free:
                raise self._refusal(n)
            if self._tail - head == self._num_free:  # no stale entries
                end = head + n
                ids = self._queue[head:end]
            else:
                ids, end = self._valid_entries(n)
        except TypeError:
            raise InvalidRequest(f"asked for {n!r} blocks; the number must be an int") from None
        if n <= _FEW:
            state = self._state
            for block in ids:
                state[block] = 1
        else:
            self._state_v[_vector(ids)] = 1
        self._head = end
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
        blocks = ids if type(ids) is array else as_block_ids(ids)
        freed: array[int] | Int64s
        if len(blocks) <= _FEW and self._held_once(blocks):
            freed = blocks
            tail = self._tail
            if tail + len(blocks) > self._capacity:
                tail = self._compact()
            queue, state = self._queue, self._state
            for at, block in enumerate(blocks, tail):
                queue[at] = block
                state[block] = ~at
        else:
            freed, tail = self._drop(_vector(blocks))
            self._queue_v[tail : tail + len(freed)] = freed
        n = len(freed)
        self._tail = tail + n
        self._num_free += n
        num_cached = self._count_cached(freed) if self._caches else 0
        self._num_evictable += num_cached
        if (emit := self.events.emit) is not None:
            emit(BlocksFreed(n, num_cached, self._num_free, self._num_blocks))

    def share(self, ids: Iterable[int]) -> None:
        """Add one reference to each block; an id that occurs twice gains two.

        Raises:
            InvalidRequest: `ids` is not a collection of ints.
            UnknownBlock: an id is outside the pool, or its block is free: it has no owner to share with.
        """
        blocks = _vector(as_block_ids(ids))
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
        if n > self._num_free:
            raise self._refusal(n)
        if n + len(kept := _vector(as_block_ids(keep))) > self._num_free:
            num_idle = int(np.count_nonzero(self._held(kept) < 0))
            if n + num_idle > self._num_free:
                raise self._refusal(n, num_idle)

    # ---- blocks with content worth keeping

    def mark_cached(self, ids: Iterable[int]) -> None:
        """Mark blocks in use as holding reusable content.

        Raises:
            UnknownBlock: an id is outside the pool, or its block is free.
        """
        blocks = _vector(as_block_ids(ids))
        if np.count_nonzero(self._held(blocks) > 0) < len(blocks):
            raise UnknownBlock(
                f"only blocks in use can be marked as cached; one of {blocks.tolist()} is free"
            )
        self._caches = True
        self._cached_v[blocks] = True

    def unmark_cached(self, ids: Iterable[int]) -> None:
        """Forget that these blocks hold reusable content; free ones stay where they are in the queue.

        Raises:
            UnknownBlock: an id is outside the pool.
        """
        blocks = _vector(as_block_ids(ids))
        idle = blocks[(self._held(blocks) < 0) & self._cached_v[blocks]]
        self._cached_v[blocks] = False
        self._num_evictable -= len(np.unique(idle))

    def reuse(self, ids: Iterable[int]) -> None:
        """Add one reference to each of these distinct cached blocks; idle ones leave the free queue.

        O(blocks named), wherever in the queue they stand.

        Raises:
            InvalidRequest: an id occurs twice.
            UnknownBlock: an id is outside the pool, or its block is not marked as cached.
        """
        blocks = _vector(as_block_ids(ids))
        held = self._held(blocks)
        if np.count_nonzero(self._cached_v[blocks]) < len(blocks):
            raise UnknownBlock(f"only cached blocks can be reused; one of {blocks.tolist()} is not")
        self._require_distinct(blocks, held)
        idle = held < 0
        self._state_v[blocks] = np.where(idle, 1, held + 1)
        num_idle = int(np.count_nonzero(idle))
        self._num_free -= num_idle
        self._num_evictable -= num_idle
        self._emit_shared(blocks, num_idle)

    # ---- proof

    def check_integrity(self) -> None:
        """Check that every block is either held or queued exactly once. O(num_blocks).

        Raises:
            InvariantError: with what was expected and what was found.
        """
        state = self._state_v
        free = np.flatnonzero(state < 0)
        place = ~state[free]
        astray = (place < self._head) | (place >= self._tail)
        astray |= self._queue_v[np.minimum(place, len(self._queue_v) - 1)] != free
        idle_cached = int(np.count_nonzero(self._cached_v[free]))
        _require_equal("blocks neither held nor free", int(np.count_nonzero(state == 0)), 0)
        _require_equal("free blocks without their entry in the queue", int(np.count_nonzero(astray)), 0)
        _require_equal("free blocks, against num_free", len(free), self._num_free)
        _require_equal("free cached blocks, against num_evictable", idle_cached, self._num_evictable)

    # ---- how

    def _held_once(self, ids: "array[int]") -> bool:
        """Whether every id is in the pool, named once and has exactly one reference: the common release."""
        state, size = self._state, self._num_blocks
        for block in ids:
            if not 0 <= block < size or state[block] != 1:
                return False
        return len(ids) < 2 or len(set(ids)) == len(ids)

    def _drop(self, blocks: Int64s) -> tuple[Int64s, int]:
        """Drop one reference from each block.

        Returns:
            Those without any left, in order, and the queue position from which on their state expects them.
        """
        held = self._held(blocks)
        freed = blocks if self._ones.startswith(held.data) else self._drop_shared(blocks, held)
        n = len(freed)
        tail = self._tail if self._tail + n <= self._capacity else self._compact()
        marks = self._marks[tail : tail + n]
        self._state_v[freed] = marks
        if not marks.tobytes().startswith(self._state_v[freed].data):  # a duplicate kept only its last mark
            self._state_v[blocks] = 1
            raise self._over_release(blocks)
        return freed, tail

    def _drop_shared(self, blocks: Int64s, held: Int64s) -> Int64s:
        """`_drop` where some blocks have several owners: only those without any left, at state 0."""
        np.subtract.at(self._state_v, blocks, 1)
        left = self._state_v[blocks]
        if np.count_nonzero(left >= 0) < len(left):
            np.add.at(self._state_v, blocks, 1)
            raise self._over_release(blocks)
        freed = blocks[left == 0]
        if not self._ones.startswith((held - left).data):  # an id occurs more than once
            _, last = np.unique(freed[::-1], return_index=True)
            freed = freed[np.sort(len(freed) - 1 - last)]
        return freed

    def _valid_entries(self, n: int) -> "tuple[array[int], int]":
        """The first `n` valid entries of the queue, and the position behind the last of them."""
        start = self._head
        if n <= _FEW:
            ids = self._queue[start : start + n]
            if all(self._state[block] == ~at for at, block in enumerate(ids, start)):
                return ids, start + n
        ids = array("q")
        while len(ids) < n:
            stop = min(start + max(2 * (n - len(ids)), 4 * _FEW), self._tail)
            window = self._queue_v[start:stop]
            valid = np.flatnonzero(self._state_v[window] == self._marks[start:stop])[: n - len(ids)]
            ids.frombytes(window[valid].tobytes())
            start = stop if len(ids) < n else start + int(valid[-1]) + 1
        return ids, start

    def _compact(self) -> int:
        """Move the valid entries to the front of the queue's memory; returns the new tail."""
        window = self._queue_v[self._head : self._tail]
        valid = window[self._state_v[window] == self._marks[self._head : self._tail]]
        self._queue_v[: len(valid)] = valid
        self._state_v[valid] = self._marks[: len(valid)]
        self._head, self._tail = 0, len(valid)
        return self._tail

    def _evict(self, ids: "array[int]") -> int:
        """Take the mark from the cached blocks among those just handed out; returns how many they were."""
        num_cached = self._count_cached(ids)
        if num_cached:
            blocks = _vector(ids)
            evicted = blocks[self._cached_v[blocks]]
            self._cached_v[evicted] = False
            self._num_evictable -= num_cached
            if self.on_evict is not None:
                self.on_evict(evicted)
        return num_cached

    def _count_cached(self, ids: "array[int] | Int64s") -> int:
        if len(ids) <= _FEW:
            return sum(map(self._cached.__getitem__, ids))
        return int(np.count_nonzero(self._cached_v[np.asarray(ids)]))

    def _held(self, blocks: Int64s) -> Int64s:
        """The state of each block, all of them inside the pool."""
        try:
            held = self._state_v[blocks]
        except IndexError:
            raise self._unknown(blocks) from None
        if len(blocks) and np.minimum.reduce(blocks) < 0:
            raise self._unknown(blocks)
        return held

    def _unknown(self, blocks: Int64s) -> UnknownBlock:
        wrong = blocks[(blocks < 0) | (blocks >= self._num_blocks)][0]
        return UnknownBlock(f"block {wrong} is not in the pool; its blocks are 0 to {self._num_blocks - 1}")

    def _require_distinct(self, blocks: Int64s, held: Int64s) -> None:
        stamps = self._marks[: len(blocks)]
        self._state_v[blocks] = stamps
        distinct = self._state_v[blocks].tobytes() == stamps.tobytes()
        self._state_v[blocks] = held
        if not distinct:
            raise InvalidRequest(f"each block can be reused once in a call; {blocks.tolist()} repeats one")

    def _emit_shared(self, blocks: Int64s, num_revived: int) -> None:
        if (emit := self.events.emit) is not None and len(blocks):
            highest = int(self._state_v[blocks].max())
            emit(BlocksShared(len(blocks), num_revived, highest, self._num_free, self._num_blocks))

    def _refusal(self, n: int, num_kept: int = 0) -> Exception:
        if n < 0:
            return InvalidRequest(f"asked for {n} blocks; the number must not be negative")
        free = self._num_free - self._num_evictable
        evictable = self._num_evictable - num_kept
        if (emit := self.events.emit) is not None:
            emit(AllocationFailed(n, free, evictable))
        never = f"the pool has {self._num_blocks} blocks in all, so this can never be served"
        return OutOfBlocks(n, free, evictable, never if n > self._num_blocks else "")

    def _over_release(self, blocks: Int64s) -> InvariantError:
        """The error for the first block that `blocks` names more often than it has references."""
        named = np.unique(blocks, return_counts=True)
        times = dict(zip(named[0].tolist(), named[1].tolist(), strict=True))
        for block in blocks.tolist():
            held = max(0, self._state[block])
            if held == 0:
                return DoubleFree(f"block {block} is free already; it was released twice, or never allocated")
            if times[block] > held:
                kind = DoubleFree if held == 1 else RefCountUnderflow
                return kind(f"block {block} is named {times[block]} times and has {held} reference(s)")
        raise InvariantError(f"released more than is held, but of none of {blocks.tolist()}")


def _vector(ids: "array[int]") -> Int64s:
    return np.frombuffer(ids, np.int64)


def _require_equal(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise InvariantError(f"{what}: found {found}, expected {expected}; the pool's arrays are damaged")
