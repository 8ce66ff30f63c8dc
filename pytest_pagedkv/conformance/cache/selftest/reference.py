"""A paged KV cache that keeps the whole contract, written to be read, and to be broken a method at a time."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pytest_pagedkv.adapter import Feature, OutOfBlocks, Placement
from pytest_pagedkv.conformance.cache.selftest.indexed import IndexedCache

__all__ = ["ReferenceCache", "SequenceState"]


@dataclass(slots=True)
class SequenceState:
    """A live sequence.

    Attributes:
        namespace: prefixes of different namespaces never match.
        tokens: everything it consists of.
        table: its blocks, in order.
        is_cacheable: its full blocks enter the index; no longer once the cache was reset under it.
        is_swapped: its KV is elsewhere, and its table empty.
    """

    namespace: str
    tokens: list[int]
    table: list[int]
    is_cacheable: bool = True
    is_swapped: bool = False


class ReferenceCache(IndexedCache):
    """A pool of reference-counted blocks under a prefix index, in plain Python.

    Every full block is in the index, under a chained hash, with the prefix itself to compare. Blocks that
    nobody owns and that are in the index stay there, and are evicted when no blank block is left, those
    released longest ago first, and of one sequence the last block first. A write to a block that has other
    owners is preceded by a copy. A call that has no room raises before it has changed anything.

    Each step is a method of its own, so that a subclass can get exactly one of them wrong.

    Attributes:
        copies_at_fork: a fork copies a partly filled last block at once, and not when it is written.
    """

    features = (
        Feature.PREFIX_CACHE
        | Feature.FORK
        | Feature.TRUNCATE
        | Feature.SWAP
        | Feature.NAMESPACE
        | Feature.REF_COUNTS
        | Feature.RESET
    )
    copies_at_fork: ClassVar[bool] = False

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # in the index without an owner, oldest first
        self._num_owners: dict[int, int] = {}
        self._sequences: dict[int, SequenceState] = {}

    # ---- the contract

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Admit, on the blocks that hold the leading tokens and as many new ones as it takes."""
        self._require_new(seq_id)
        self._require_tokens(token_ids)
        hits = self._match(namespace, token_ids)
        num_new = self._num_blocks_for(len(token_ids)) - len(hits)
        self._require_room(num_new + self._num_idle(hits))
        table = self._claim(hits, num_new)
        self._sequences[seq_id] = sequence = SequenceState(namespace, list(token_ids), table)
        self._register(sequence, len(hits))
        return Placement(self._num_cached(hits, token_ids))

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Append; copy-on-write happens here."""
        sequence = self._resident(seq_id)
        self._require_tokens(token_ids)
        start = len(sequence.tokens)
        num_new = self._num_blocks_for(start + len(token_ids)) - len(sequence.table)
        self._require_room(num_new + self._copies_tail(sequence))
        copies = self._open_tail(sequence)
        sequence.table += self._take(num_new)
        sequence.tokens += token_ids
        self._register(sequence, start // self.block_size)
        return Placement(0, copies)

    def fork(self, parent_id: int, child_id: int) -> Placement:
        """Fork, sharing every block."""
        parent = self._resident(parent_id)
        self._require_new(child_id)
        copies_now = self.copies_at_fork and self._has_partial_tail(parent)
        self._require_room(int(copies_now))
        self._sequences[child_id] = child = self._child_of(parent)
        return Placement(0, (self._copy_tail(child),) if copies_now else ())

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        """Cut back. The block that is cut stays in the index until it is written."""
        sequence = self._resident(seq_id)
        if not 1 <= num_tokens <= len(sequence.tokens):
            raise ValueError(f"{len(sequence.tokens)} tokens cannot be cut back to {num_tokens}")
        keep = self._num_blocks_kept(num_tokens)
        self._give_back(sequence.table[keep:])
        del sequence.table[keep:], sequence.tokens[num_tokens:]
        return Placement()

    def release(self, seq_id: int) -> None:
        """End a sequence."""
        self._give_back(self._live(seq_id).table)
        del self._sequences[seq_id]

    def swap_out(self, seq_id: int) -> None:
        """Give up its blocks, and keep the rest."""
        sequence = self._resident(seq_id)
        self._give_back(sequence.table)
        sequence.table, sequence.is_swapped = [], True

    def swap_in(self, seq_id: int) -> Placement:
        """Write everything into new blocks, which enter the index as any other."""
        sequence = self._live(seq_id)
        if not sequence.is_swapped:
            raise ValueError(f"sequence {seq_id} is not swapped out")
        num_blocks = self._num_blocks_for(len(sequence.tokens))
        self._require_room(num_blocks)
        sequence.table, sequence.is_swapped = self._take(num_blocks), False
        self._register(sequence, 0)
        return Placement()

    def reset_prefix_cache(self) -> None:
        """Empty the index. What live sequences write from now on rests on older KV, so it stays out too."""
        self._blank += self._idle
        self._idle.clear()
        self._clear_index()
        for sequence in self._sequences.values():
            sequence.is_cacheable = False

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The blocks, in order."""
        return tuple(self._live(seq_id).table)

    def num_free_blocks(self) -> int:
        """Blank and idle blocks."""
        return len(self._blank) + len(self._idle)

    def ref_counts(self) -> Mapping[int, int]:
        """Of the blocks that have an owner."""
        return dict(self._num_owners)

    # ---- what is asked before anything changes

    def _live(self, seq_id: int) -> SequenceState:
        if seq_id not in self._sequences:
            raise KeyError(f"sequence {seq_id} is not live")
        return self._sequences[seq_id]

    def _resident(self, seq_id: int) -> SequenceState:
        sequence = self._live(seq_id)
        if sequence.is_swapped:
            raise ValueError(f"sequence {seq_id} is swapped out")
        return sequence

    def _require_new(self, seq_id: int) -> None:
        if seq_id in self._sequences:
            raise ValueError(f"sequence {seq_id} is live")

    def _require_tokens(self, token_ids: Sequence[int]) -> None:
        if not token_ids:
            raise ValueError("there must be at least one token")

    def _require_room(self, num_blocks: int) -> None:
        if num_blocks > self.num_free_blocks():
            raise OutOfBlocks(f"{num_blocks} blocks are needed, {self.num_free_blocks()} are free")

    def _num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _num_blocks_kept(self, num_tokens: int) -> int:
        return self._num_blocks_for(num_tokens)

    def _num_idle(self, hits: Sequence[int]) -> int:
        """Of the blocks that a prompt hits, those that count as free until it takes them."""
        return sum(block in self._idle for block in hits)

    def _num_cached(self, hits: Sequence[int], token_ids: Sequence[int]) -> int:  # noqa: ARG002 (for faults)
        return len(hits) * self.block_size

    # ---- who owns what

    def _claim(self, hits: list[int], num_new: int) -> list[int]:
        """The table of a new sequence: what it hits is taken before anything can be evicted for the rest."""
        self._acquire(hits)
        return hits + self._take(num_new)

    def _acquire(self, blocks: Sequence[int]) -> None:
        """Add an owner to each block."""
        for block in blocks:
            self._idle.pop(block, None)
            self._num_owners[block] = self._num_owners.get(block, 0) + 1

    def _take(self, num_blocks: int) -> list[int]:
        """So many blocks that had no owner."""
        blocks = [self._next_block() for _ in range(num_blocks)]
        for block in blocks:
            self._num_owners[block] = 1
        return blocks

    def _next_block(self) -> int:
        return self._blank.pop() if self._blank else self._evict()

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        self._unregister(block)
        return block

    def _give_back(self, blocks: Sequence[int]) -> None:
        """Take an owner from each block, from the last to the first, so that tails are evicted first."""
        for block in reversed(blocks):
            self._drop(block)

    def _drop(self, block: int) -> None:
        self._num_owners[block] -= 1
        if not self._num_owners[block]:
            del self._num_owners[block]
            self._retire(block)

    def _retire(self, block: int) -> None:
        """A block without an owner is worth keeping if the index knows it."""
        if block in self._entries:
            self._idle[block] = None
        else:
            self._blank.append(block)

    # ---- copy-on-write

    def _has_partial_tail(self, sequence: SequenceState) -> bool:
        return len(sequence.tokens) % self.block_size != 0

    def _copies_tail(self, sequence: SequenceState) -> bool:
        """The next write goes to a block that has other owners."""
        return self._has_partial_tail(sequence) and self._num_owners[sequence.table[-1]] > 1

    def _open_tail(self, sequence: SequenceState) -> tuple[tuple[int, int], ...]:
        """Make a partly filled last block ready to be written; returns the copy that it takes."""
        if self._copies_tail(sequence):
            return (self._copy_tail(sequence),)
        if self._has_partial_tail(sequence):
            self._unregister(sequence.table[-1])
        return ()

    def _copy_tail(self, sequence: SequenceState) -> tuple[int, int]:
        """Replace the last block by one of its own."""
        source, destination = sequence.table[-1], *self._take(1)
        sequence.table[-1] = destination
        self._drop(source)
        return source, destination

    def _child_of(self, parent: SequenceState) -> SequenceState:
        """A sequence with everything that the parent has, as an owner of its blocks."""
        self._acquire(parent.table)
        return SequenceState(parent.namespace, list(parent.tokens), list(parent.table), parent.is_cacheable)

    def _register(self, sequence: SequenceState, start: int) -> None:
        """Enter the full blocks of a sequence from position `start` of its table on."""
        stop = self._num_registrable(sequence)
        if start < stop:
            entries = self._entries_of(sequence.namespace, sequence.tokens)
            for block, entry in zip(sequence.table[start:stop], entries[start:stop], strict=True):
                self._enter(block, entry)

    def _num_registrable(self, sequence: SequenceState) -> int:
        return len(sequence.tokens) // self.block_size if sequence.is_cacheable else 0
