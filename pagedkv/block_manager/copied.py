"""A cache at one moment, for whoever looks at it while the cache goes on."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_manager import measures
from pagedkv.block_manager.placement import Fragmentation
from pagedkv.block_manager.sequence_table import SequenceTable
from pagedkv.block_pool import BlockPool
from pagedkv.prefix_cache import PrefixTree

__all__ = ["BlockState", "CacheCopy"]

_NO_BLOCKS = np.empty(0, np.int64)


class BlockState(IntEnum):
    """Who has a block."""

    FREE = 0
    """Nobody, and its content is of no use."""
    CACHED_IDLE = 1
    """Nobody; its content is in the prefix cache until it is handed out."""
    IN_USE = 2
    """One sequence."""
    SHARED = 3
    """Several sequences."""
    DEFERRED = 4
    """No sequence any more; a step in flight still reads it."""
    PAGING_IN = 5
    """No sequence yet; pages come into it from below the device."""


@dataclass(frozen=True, kw_only=True)
class CacheCopy:
    """Copies of the arrays of a cache; everything else is worked out when somebody asks for it.

    Attributes:
        pool: the blocks.
        sequences: the live sequences, and their block tables.
        tree: the shape of the prefix cache; None without, or with prefixes known by ids.
        block_size: tokens in a block.
        num_cached: blocks in the prefix cache.
        num_pages: pages below the device.
        waiting: blocks of references that wait for a step in flight.
        coming: blocks of references that page-ins have.
    """

    pool: BlockPool
    sequences: SequenceTable
    tree: PrefixTree | None
    block_size: int
    num_cached: int
    num_pages: int
    waiting: list[Int64s]
    coming: list[Int64s]

    @cached_property
    def num_holders(self) -> Int64s:
        """How many sequences have each block. Shape `[num_blocks]` (int64)."""
        return self.pool.ref_counts() - self._counted(self.waiting) - self._counted(self.coming)

    @cached_property
    def states(self) -> npt.NDArray[np.uint8]:
        """The `BlockState` of each block. Shape `[num_blocks]` (uint8)."""
        held, coming, holders = self.pool.ref_counts() > 0, self._counted(self.coming) > 0, self.num_holders
        states = np.where(self.pool.cached_mask(), BlockState.CACHED_IDLE, BlockState.FREE)
        states[held] = np.where(coming[held], BlockState.PAGING_IN, BlockState.DEFERRED)
        states[holders == 1] = BlockState.IN_USE
        states[holders > 1] = BlockState.SHARED
        return states.astype(np.uint8)

    def fragmentation(self) -> Fragmentation:
        """As that of the cache."""
        return measures.fragmentation(
            self.pool, self.sequences, self.block_size, bool(self.waiting), self._num_coming()
        )

    def internal_ratio(self) -> float:
        """As `internal_fragmentation` of the cache."""
        return measures.internal_ratio(
            self.pool, self.sequences, self.block_size, bool(self.waiting), self._num_coming()
        )

    def table(self, seq_id: int) -> Int32s:
        """Blocks of a sequence, in order; none if it has no blocks."""
        if seq_id not in self.sequences:
            return self.sequences.tables[0, :0]
        row = self.sequences.row(seq_id)
        return self.sequences.tables[row, : -(-int(self.sequences.num_tokens[row]) // self.block_size)]

    def num_tokens(self, seq_id: int) -> int:
        """Tokens of a sequence that have slots."""
        return int(self.sequences.num_tokens[self.sequences.row(seq_id)]) if seq_id in self.sequences else 0

    def ref_hist(self) -> dict[int, int]:
        """How many blocks have each number of references, in ascending order."""
        numbers, counts = np.unique(self.pool.ref_counts(), return_counts=True)
        return {int(n): int(c) for n, c in zip(numbers, counts, strict=True) if n}

    def num_by_state(self) -> dict[str, int]:
        """How many blocks are in each state, by its name in lower case."""
        found = np.bincount(self.states, minlength=len(BlockState)).tolist()
        return {state.name.lower(): found[state] for state in BlockState}

    def _num_coming(self) -> int:
        """Blocks that nobody but page-ins has references to."""
        counts = self._counted(self.coming)
        return int(np.count_nonzero((counts > 0) & (self.pool.ref_counts() == counts)))

    def _counted(self, blocks: list[Int64s]) -> Int64s:
        return np.bincount(np.concatenate([_NO_BLOCKS, *blocks]), minlength=self.pool.num_blocks)
