"""The free queue and the reference counts behind a block pool, as arrays.

A block is an int. Two arrays say everything:

    queue   block ids in the order in which they became free: allocation takes from the head, release
            appends at the tail. A block that is taken back from the middle leaves its entry behind, stale.
    state   per block: the reference count while it is held (>= 1), or ~position of its one valid queue
            entry while it is free (< 0).

The entry at position p is valid if and only if state[queue[p]] == ~p. So a cached block is taken back from
anywhere by writing one number, and stale entries are skipped when the head reaches them. The queue is a
ring of at least twice as many entries as there are blocks. When stale ones crowd it, each release moves a few
valid entries forward until no stale ones are left between them, so that none stops to tidy up all of it.
Every operation is O(blocks it names), whatever the size of the pool; allocation is so amortised, as it has to
pass the stale entries that stand at the head. Small requests walk the arrays item by item, large ones as
vectors over the same memory.
"""

from array import array

import numpy as np

from pagedkv.block_ids import Int64s, as_block_ids, two_views
from pagedkv.errors import DoubleFree, InvalidRequest, InvariantError, RefCountUnderflow, UnknownBlock

__all__ = ["FEW", "FreeQueue", "as_vector", "require_equal"]

_MAX_BLOCKS = 2**31 - 1  # block tables are int32
_INT64 = np.dtype(np.int64)
FEW = 16  # up to here a Python loop beats the fixed cost of numpy calls


class FreeQueue:
    """Which blocks are free, in order, and how many references the others have."""

    def __init__(self, num_blocks: int) -> None:
        if isinstance(num_blocks, bool) or not isinstance(num_blocks, int):
            raise InvalidRequest(f"num_blocks is {num_blocks!r}; a pool needs an int of at least 1")
        if not 1 <= num_blocks <= _MAX_BLOCKS:
            raise InvalidRequest(
                f"num_blocks is {num_blocks}; a pool needs at least 1 and at most {_MAX_BLOCKS}"
            )
        capacity = 1 << (2 * num_blocks - 1).bit_length()
        self._num_blocks = num_blocks
        self._capacity = capacity
        self._mask = capacity - 1
        # State of the block whose valid entry is at [p]; a slice from any position needs no wrapping.
        self._marks = ~(np.arange(capacity + num_blocks, dtype=np.int64) & self._mask)
        self._ones = np.ones(num_blocks, dtype=np.int64).tobytes()
        self._queue, self._queue_v = two_views(~self._marks[:capacity])
        self._state, self._state_v = two_views(self._marks[:num_blocks])
        self._head = 0  # a place counts up; its position in the ring is place & mask
        self._tail = num_blocks
        self._crowded = num_blocks + num_blocks // 2
        self._scanned = 0  # how far the current round of packing has looked,
        self._packed = 0  # and up to where what it has seen is packed
        self._num_free = num_blocks

    def _release_one(self, block: int) -> int:
        """Queue a block that has one reference, the commonest release of all; 0 if it is not that simple."""
        state = self._state
        if type(block) is not int or not 0 <= block < self._num_blocks or state[block] != 1:
            return 0
        if self._tail - self._head >= self._crowded:
            return 0
        position = self._tail & self._mask
        self._queue[position] = block
        state[block] = ~position
        return 1

    def _release_few(self, blocks: "array[int] | list[int]") -> int:
        """Drop a reference from each block, and queue those without any left; returns how many."""
        queue, state, size, mask = self._queue, self._state, self._num_blocks, self._mask
        if self._tail + len(blocks) - self._head > self._crowded:
            self._pack(len(blocks))
        place = self._tail
        done = 0
        try:
            for block in blocks:
                held = state[block] if 0 <= block < size else 0
                if held == 1:
                    position = place & mask
                    queue[position] = block
                    state[block] = ~position
                    place += 1
                elif held > 1:
                    state[block] = held - 1
                else:
                    break
                done += 1
            else:
                return place - self._tail
        except TypeError:  # no ints; said below
            pass
        for block in reversed(blocks[:done]):
            state[block] = 1 if state[block] < 0 else state[block] + 1
        raise self._over_release(as_vector(as_block_ids(blocks)))

    def _release_many(self, blocks: Int64s) -> int:
        """The same as vector operations."""
        state = self._state_v
        try:
            held = state[blocks]
        except IndexError:
            raise self._unknown(blocks) from None
        freed = blocks if self._ones.startswith(held.data) else self._drop_shared(blocks)
        n = len(freed)
        if self._tail + n - self._head > self._crowded:
            self._pack(n)
        start = self._tail & self._mask
        marks = self._marks[start : start + n]
        state[freed] = marks
        # A block that is named twice has only the last of its marks. A negative id has marked the block that
        # it counts back to, but is read as block 0: a difference too, unless it counts back to block 0.
        found = state.take(freed, mode="clip")
        zero = (~self._state[0] - start) & self._mask if self._state[0] < 0 else n
        if not marks.tobytes().startswith(found.data) or (zero < n and freed[zero] != 0):
            state[freed] = 1
            raise self._over_release(blocks)
        if (overlap := start + n - self._capacity) <= 0:
            self._queue_v[start : start + n] = freed
        else:
            self._queue_v[start:] = freed[:-overlap]
            self._queue_v[:overlap] = freed[-overlap:]
        return n

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

    def _drop_shared(self, blocks: Int64s) -> Int64s:
        """Drop one reference from each block, some of which are shared; returns those at 0, in order."""
        held = self._held(blocks)
        np.subtract.at(self._state_v, blocks, 1)
        left = self._state_v[blocks]
        if np.count_nonzero(left >= 0) < len(left):
            np.add.at(self._state_v, blocks, 1)
            raise self._over_release(blocks)
        freed = blocks[left == 0]
        if not self._ones.startswith((held - left).data):  # an id occurs more than once
            _, last = np.unique(freed[::-1], return_index=True)
            freed = freed[np.sort(len(freed) - 1 - last)]
        return np.asarray(freed)

    def _over_release(self, blocks: Int64s) -> InvariantError:
        """The error for the first block that `blocks` names more often than it has references."""
        if len(blocks) and not (blocks.min() >= 0 and blocks.max() < self._num_blocks):
            return self._unknown(blocks)
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

    def _take_valid(self, n: int) -> "array[int]":
        """Take the first `n` valid entries off the queue, which has stale ones."""
        place = self._head
        if n <= FEW and (place & self._mask) + n <= self._capacity:
            start = place & self._mask
            ids = self._queue[start : start + n]
            if all(self._state[block] == ~position for position, block in enumerate(ids, start)):
                self._head = place + n
                return ids
        ids = array("q")
        num_looked_at = max(2 * n, 4 * FEW)
        while len(ids) < n:
            stop = min(place + num_looked_at, self._tail)
            num_looked_at *= 2
            positions = np.arange(place, stop) & self._mask
            window = self._queue_v[positions]
            valid = np.flatnonzero(self._state_v[window] == ~positions)[: n - len(ids)]
            ids.frombytes(window[valid].tobytes())
            place = stop if len(ids) < n else place + int(valid[-1]) + 1
        self._head = place
        return ids

    def _pack(self, n: int) -> None:
        """Look at the next few of the entries, and move the valid ones up to those before them.

        With 8 entries looked at for each one that is appended, a round that starts at 1.5 entries per block
        ends before there are 2, and leaves fewer than 1.5.
        """
        start, into = max(self._scanned, self._head), max(self._packed, self._head)
        stop = min(start + max(8 * n, 4 * FEW), self._tail)
        positions = np.arange(start, stop) & self._mask
        window = self._queue_v[positions]
        valid = window[self._state_v[window] == ~positions]
        targets = np.arange(into, into + len(valid)) & self._mask
        self._queue_v[targets] = valid
        self._state_v[valid] = ~targets
        self._scanned, self._packed = stop, into + len(valid)
        if stop == self._tail:
            self._tail = self._packed
            self._scanned = self._packed = 0

    def _check_queue(self) -> None:
        """Check that every block is either held or queued exactly once."""
        state = self._state_v
        free = np.flatnonzero(state < 0)
        position = ~state[free]
        astray = ((position - self._head) & self._mask) >= self._tail - self._head
        astray |= self._queue_v[position & self._mask] != free
        require_equal("blocks neither held nor free", int(np.count_nonzero(state == 0)), 0)
        require_equal("free blocks without their entry in the queue", int(np.count_nonzero(astray)), 0)
        require_equal("free blocks, against num_free", len(free), self._num_free)


def as_vector(ids: "array[int]") -> Int64s:
    """The same memory as a numpy vector."""
    return np.frombuffer(ids, _INT64)


def require_equal(what: str, found: int, expected: int) -> None:
    """Raise `InvariantError` with the numbers unless they agree."""
    if found != expected:
        raise InvariantError(f"{what}: found {found}, expected {expected}; the pool's arrays are damaged")
