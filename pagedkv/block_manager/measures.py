"""What can be said about a manager by looking at all of it: fragmentation, and whether its books balance."""

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_manager.placement import Fragmentation
from pagedkv.block_manager.sequence_table import SequenceTable
from pagedkv.block_pool import BlockPool
from pagedkv.errors import InvariantError
from pagedkv.prefix_cache import IdIndex, TokenIndex

__all__ = ["check_integrity", "fragmentation", "internal_ratio"]

_NO_BLOCKS = np.empty(0, np.int64)


def fragmentation(
    pool: BlockPool, sequences: SequenceTable, block_size: int, any_waits: bool, num_coming: int
) -> Fragmentation:
    """How much of the space in use, but for `num_coming` blocks, is wasted, and how scattered blocks are."""
    num_slots = (pool.num_blocks - pool.num_free - num_coming) * block_size
    num_wasted = _num_wasted(pool, sequences, block_size, any_waits, num_slots)
    expected = len(sequences) * (block_size - 1) / 2
    runs, table_runs = pool.free_runs(), _table_runs(sequences, block_size)
    return Fragmentation(
        internal_ratio=num_wasted / num_slots if num_slots else 0.0,
        num_wasted_slots=num_wasted,
        excess_ratio=max(0.0, num_wasted - expected) / num_slots if num_slots else 0.0,
        num_free_runs=len(runs),
        longest_free_run=int(runs.max(initial=0)),
        num_table_runs=len(table_runs),
        mean_table_run=float(table_runs.mean()) if len(table_runs) else 0.0,
    )


def internal_ratio(
    pool: BlockPool, sequences: SequenceTable, block_size: int, any_waits: bool, num_coming: int
) -> float:
    """1 - written slots of live sequences / slots of the blocks in use; 0.0 with no block in use."""
    num_slots = (pool.num_blocks - pool.num_free - num_coming) * block_size
    num_wasted = _num_wasted(pool, sequences, block_size, any_waits, num_slots)
    return num_wasted / num_slots if num_slots else 0.0


def check_integrity(
    pool: BlockPool,
    sequences: SequenceTable,
    index: TokenIndex | IdIndex | None,
    block_size: int,
    waiting: list[Int64s],
) -> None:
    """Check pool, tables, reference counts and prefix index against each other.

    Raises:
        InvariantError: with what was expected and what was found.
    """
    pool.check_integrity()
    size = pool.num_blocks
    held = np.bincount(np.concatenate(_tables(sequences, block_size)), minlength=size)
    in_flight = np.bincount(np.concatenate([_NO_BLOCKS, *waiting]), minlength=size)
    _require_same("references", pool.ref_counts(), held + in_flight)
    registered = np.zeros(size, np.int64)
    if index is not None:
        known = np.array(index.blocks(), np.int64)
        registered[known[known < size]] = 1
    _require_same("registrations", pool.cached_mask().astype(np.int64), registered)
    for row in sequences.rows().tolist():
        position, offset = divmod(int(sequences.num_tokens[row]), block_size)
        block = int(sequences.tables[row, position]) if offset else 0
        if offset and not sequences.guarded[row] and (held[block] > 1 or registered[block]):
            raise InvariantError(f"row {row} would write to block {block}, which others hold or may reuse")


def _require_same(what: str, found: Int64s, expected: Int64s) -> None:
    if wrong := np.flatnonzero(found != expected).tolist():
        block = wrong[0]
        raise InvariantError(
            f"{what} of block {block}: the pool says {found[block]}, tables and index say {expected[block]}; "
            f"{len(wrong)} block(s) differ"
        )


def _tables(sequences: SequenceTable, block_size: int) -> list[Int32s | Int64s]:
    """The block table of each live sequence."""
    rows = sequences.rows()
    num_blocks = -(-sequences.num_tokens[rows] // block_size)
    tables = [sequences.tables[row, :n] for row, n in zip(rows.tolist(), num_blocks.tolist(), strict=True)]
    return [_NO_BLOCKS, *tables]


def _num_wasted(
    pool: BlockPool, sequences: SequenceTable, block_size: int, any_waits: bool, num_slots: int
) -> int:
    """Slots of the blocks in use that hold no token of a live sequence.

    If no reference waits for a step, and only sequences that end in them hold the partly filled blocks, those
    blocks are all there is to look at: O(sequences).
    """
    _, _, tails, offsets = _ends(sequences, block_size)
    blocks, which, counts = np.unique(tails, return_inverse=True, return_counts=True)
    filled = np.zeros(len(blocks), np.int64)
    np.maximum.at(filled, which, offsets)
    if not any_waits and (pool.ref_counts(blocks) == counts).all():
        return len(blocks) * block_size - int(filled.sum())
    return num_slots - int(_written_slots(pool.num_blocks, sequences, block_size).sum())


def _written_slots(num_blocks: int, sequences: SequenceTable, block_size: int) -> Int64s:
    """How many slots of each block hold a token of a live sequence. Shape `[num_blocks]` (int64)."""
    written = np.zeros(num_blocks, np.int64)
    rows, full, tails, offsets = _ends(sequences, block_size)
    for row, n in zip(rows.tolist(), full.tolist(), strict=True):
        written[sequences.tables[row, :n]] = block_size
    np.maximum.at(written, tails, offsets)
    return written


def _ends(sequences: SequenceTable, block_size: int) -> tuple[Int64s, Int64s, Int32s, Int64s]:
    """Rows and numbers of full blocks of all sequences; partly filled blocks and how many slots are."""
    rows = sequences.rows()
    full, offsets = np.divmod(sequences.num_tokens[rows], block_size)
    partial = offsets > 0
    return rows, full, sequences.tables[rows[partial], full[partial]], offsets[partial]


def _table_runs(sequences: SequenceTable, block_size: int) -> Int64s:
    """Lengths of the maximal runs of consecutive ids inside the block tables."""
    tables = [table for table in _tables(sequences, block_size) if len(table)]
    if not tables:
        return _NO_BLOCKS
    blocks = np.concatenate(tables)
    is_first = np.diff(blocks, prepend=blocks[0]) != 1
    is_first[np.cumsum([0, *map(len, tables[:-1])])] = True
    return np.diff(np.flatnonzero(is_first), append=len(blocks))
