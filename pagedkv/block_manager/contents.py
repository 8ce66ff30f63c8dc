"""What the blocks hold: the token of every slot, and the prefix index over the full blocks."""

from array import array

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_pool import BlockPool
from pagedkv.config import CacheConfig
from pagedkv.errors import InvariantError
from pagedkv.events import BlocksRegistered, BlocksUnregistered
from pagedkv.prefix_cache import IdIndex, TokenIndex

__all__ = ["TokenContents", "mark_registered", "unregister"]


class TokenContents:
    """Token ids in the layout of the KV store, and the index of the prefixes that they form.

    Attributes:
        tokens: token id of every slot; meaningful where a kernel has written KV.
            Shape `[num_blocks, block_size]` (int32).
        slots: the same memory, flat. Shape `[num_blocks * block_size]` (int32).
        index: exact prefix index of the full blocks.
    """

    def __init__(self, config: CacheConfig, pool: BlockPool) -> None:
        self._pool = pool
        self._block_size = config.block_size
        self.tokens: Int32s = np.zeros((config.num_blocks, config.block_size), np.int32)
        self.slots: Int32s = self.tokens.reshape(-1)
        self.index = TokenIndex(config.num_blocks, config.block_size)

    def match(self, namespace: str, tokens: Int32s) -> "array[int]":
        """Blocks that hold the leading tokens of a prompt; its last token is never among them."""
        num_blocks = (len(tokens) - 1) // self._block_size
        return self.index.match(namespace, tokens[: max(0, num_blocks) * self._block_size].tobytes())

    def write(self, table: Int32s, start: int, tokens: Int32s) -> None:
        """Record tokens at positions `start` .. of a sequence with this block table."""
        position, offset = np.divmod(np.arange(start, start + len(tokens)), self._block_size)
        self.slots[table[position] * np.int64(self._block_size) + offset] = tokens

    def register(self, namespace: str, table: Int32s, num_full: int) -> None:
        """Put the first `num_full` blocks of a sequence into the index, where their prefixes are not yet."""
        mark_registered(self._pool, self._insert(namespace, table[:num_full]))

    def register_filled(self, namespaces: list[str], tables: Int32s, rows: Int64s, num_full: Int64s) -> None:
        """Put the last full block of each of several sequences into the index.

        Args:
            namespaces: of each sequence.
            tables: block tables. Shape `[num_rows, width]` (int32).
            rows: row of each sequence.
            num_full: full blocks of each sequence, at least 1.
        """
        last = tables[rows, num_full - 1]
        keys = self.tokens[last].tobytes()
        width = 4 * self._block_size
        added = array("q")
        parents = tables[rows, num_full - 2].tolist()  # not looked at where there is none
        for i, (block, parent, row, full) in enumerate(
            zip(last.tolist(), parents, rows.tolist(), num_full.tolist(), strict=True)
        ):
            if (
                full == 1 or parent not in self.index
            ):  # a first block, or one behind the twin of a registered one
                added += self._insert(namespaces[i], tables[row, :full])
            elif self.index.extend(parent, keys[i * width : (i + 1) * width], block):
                added.append(block)
        mark_registered(self._pool, added)

    def _insert(self, namespace: str, blocks: Int32s) -> "array[int]":
        keys = self.tokens[blocks].tobytes()
        return self.index.insert(namespace, keys, array("q", blocks.astype(np.int64).tobytes()))

    def copy(self, source: int, destination: int) -> None:
        """Do to the tokens what the copy kernel does to the KV."""
        self.tokens[destination] = self.tokens[source]

    def before_write(self, block: int) -> None:
        """A block's only owner is about to overwrite it: prefixes through it are gone."""
        if block in self.index:
            unregister(self._pool, self.index, np.array([block]))

    def check_integrity(self) -> None:
        """Check that the index says of every block what the block holds.

        Raises:
            InvariantError: it does not.
        """
        self.index.check_integrity()
        for blocks, keys in self.index.paths():
            if self.tokens[np.array(blocks, np.int64)].tobytes() != keys:
                raise InvariantError(f"the index knows blocks {list(blocks)} by tokens that they do not hold")


def mark_registered(pool: BlockPool, blocks: "array[int]") -> None:
    """Tell the pool that blocks in use have just been registered."""
    if blocks:
        pool.mark_cached(blocks)
        if (emit := pool.events.emit) is not None:
            emit(BlocksRegistered(len(blocks)))


def unregister(pool: BlockPool, index: TokenIndex | IdIndex, blocks: Int64s, num_evicted: int = 0) -> None:
    """Take blocks and what depends on them out of the index, and tell the pool.

    Args:
        pool: owner of the blocks.
        index: where they are registered.
        blocks: the blocks.
        num_evicted: how many of them the pool has evicted, and so counted, itself.
    """
    dropped = index.forget(blocks)
    if len(dropped) > num_evicted:
        pool.unmark_cached(dropped)
        if (emit := pool.events.emit) is not None:
            emit(BlocksUnregistered(len(dropped) - num_evicted))
