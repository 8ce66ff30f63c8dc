"""Copy-on-write: whoever is about to write into a block that others hold gets a copy first.

Only the partly filled last block of a sequence can be written, and only a fork or a truncation can make it
shared or registered. Those set the row's guard, so that a plain decode step looks at nothing.

Only live sequences count as holders. A reference that waits for a step in flight keeps its block from being
handed out again, but makes nobody copy: the engine orders what a sequence writes behind the steps that it has
in flight, shared block or not.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.block_manager.contents import TokenContents
from pagedkv.block_manager.registration import unregister
from pagedkv.block_manager.sequence_table import SequenceTable
from pagedkv.block_manager.steps import StepsInFlight
from pagedkv.block_pool import BlockPool
from pagedkv.events import BlocksCopied
from pagedkv.offload.tiers import PageTiers
from pagedkv.prefix_cache import IdIndex, TokenIndex

if TYPE_CHECKING:
    from array import array

__all__ = ["Copies", "CopyOnWrite", "Writers"]

Copies = list[tuple[int, int]]


class Writers(NamedTuple):
    """Guarded rows about to write into their last block, as (row, position in its table, block).

    Attributes:
        sharing: others hold the block too, so it is copied.
        owning: the last holder of a block writes in place.
    """

    sharing: list[tuple[int, int, int]]
    owning: list[tuple[int, int, int]]


_NOBODY = Writers([], [])


class CopyOnWrite:
    """Decides who copies, and does to tables, references and prefix cache what a copy means."""

    def __init__(
        self,
        pool: BlockPool,
        sequences: SequenceTable,
        steps: StepsInFlight,
        contents: TokenContents | None,
        index: TokenIndex | IdIndex | None,
        tiers: PageTiers | None,
    ) -> None:
        self._pool = pool
        self._tiers = tiers
        self._index = index
        self._sequences = sequences
        self._steps = steps
        self._contents = contents

    def plan(self, rows: Int64s, num_tokens: Int64s, block_size: int) -> Writers:
        """Who of these rows, about to write at these lengths, copies its last block. Changes nothing.

        Of n sequences that share a block and all write, the first n - 1 copy and the last writes in place.
        """
        sequences = self._sequences
        if not sequences.num_guarded:
            return _NOBODY
        writers = Writers([], [])
        num_holders: dict[int, int] = {}
        for i in np.flatnonzero(sequences.guarded[rows]).tolist():
            row, position = int(rows[i]), int(num_tokens[i]) // block_size
            block = int(sequences.tables[row, position])
            left = num_holders.get(block) or self._pool.ref_count(block) - self._steps.num_waiting(block)
            num_holders[block] = left - 1
            (writers.sharing if left > 1 else writers.owning).append((row, position, block))
        return writers

    def run(self, writers: Writers, new: "array[int]") -> Copies:
        """Make the last block of each writer its own, with one of the `new` blocks for each that copies."""
        if writers is _NOBODY:
            return []
        copies = []
        for (row, position, block), copy in zip(writers.sharing, new, strict=True):
            self._sequences.tables[row, position] = copy
            self._sequences.guard(row, False)
            copies.append((block, copy))
        self.record(copies, at_fork=False)
        for row, _, block in writers.sharing:
            self._steps.give_back(row, np.array([block]))
        for row, _, block in writers.owning:
            self._sequences.guard(row, False)
            if self._index is not None and block in self._index:  # prefixes through it are gone
                unregister(self._pool, self._index, np.array([block]), tiers=self._tiers)
        return copies

    def record(self, copies: Copies, at_fork: bool) -> None:
        """Do to the recorded tokens what the copy kernel does to the KV, and tell."""
        if not copies:
            return
        if self._contents is not None:
            for source, destination in copies:
                self._contents.copy(source, destination)
        if (emit := self._pool.events.emit) is not None:
            emit(BlocksCopied(len(copies), at_fork))
