"""What the manager answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pagedkv.block_ids import Int64s

__all__ = ["BatchPlacement", "Fragmentation", "Placement", "PrefixHit"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the tokens of one call go.

    Attributes:
        num_cached_tokens: leading tokens whose KV the sequence's blocks already hold.
        copies: (source block, destination block), to run in order before the new tokens are written.
    """

    num_cached_tokens: int = 0
    copies: Sequence[tuple[int, int]] = ()


class PrefixHit(NamedTuple):
    """What a cache holds of a prompt that is not admitted yet.

    Attributes:
        num_tokens: leading tokens that `admit` would reuse.
        num_idle_blocks: blocks of them that nobody has, so that admission takes them from the free ones.
    """

    num_tokens: int = 0
    num_idle_blocks: int = 0


class BatchPlacement(NamedTuple):
    """Where the tokens of one decode step go.

    Attributes:
        slot_mapping: flat slot (block * block_size + offset) of each new token, in batch order.
            Shape `[batch]` (int64).
        rows: row of each sequence in `BlockManager.block_tables`. Shape `[batch]` (int64), read-only.
        copies: (source block, destination block), to run in order before the new tokens are written.
    """

    slot_mapping: Int64s
    rows: Int64s
    copies: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """Space that is held and not used, and how scattered the rest is.

    Attributes:
        internal_ratio: 1 - written slots of live sequences / slots of the blocks in use; a slot that several
            sequences share counts once.
        num_wasted_slots: slots of the blocks in use that hold no token of a live sequence.
        excess_ratio: what is left of it after the (block_size - 1) / 2 slots per sequence that paging costs
            on average; never below 0.
        num_free_runs: maximal runs of free blocks with consecutive ids.
        longest_free_run: blocks in the longest of them.
        num_table_runs: maximal runs of consecutive ids inside the block tables, over all sequences.
        mean_table_run: blocks in such a run on average; 0.0 without sequences.
    """

    internal_ratio: float
    num_wasted_slots: int
    excess_ratio: float
    num_free_runs: int
    longest_free_run: int
    num_table_runs: int
    mean_table_run: float
