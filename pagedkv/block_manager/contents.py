"""What the blocks hold: the token of every slot, and the prefix index over the full blocks."""

from array import array
from collections.abc import Iterable

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_manager.registration import mark_registered, stand_for
from pagedkv.block_pool import BlockPool
from pagedkv.config import CacheConfig
from pagedkv.errors import InvariantError
from pagedkv.offload.tiers import PageTiers
from pagedkv.prefix_cache import TokenIndex

__all__ = ["TokenContents"]


class TokenContents:
    """Token ids in the layout of the KV store, and the index of the prefixes that they form.

    Attributes:
        tokens: token id of every slot; meaningful where a kernel has written KV. Below the blocks are the
            pages of the tiers, if there are any.
            Shape `[num_blocks + num_pages, block_size]` (int32).
        slots: the same memory, flat. Shape `[(num_blocks + num_pages) * block_size]` (int32).
        index: exact prefix index of the full blocks, and of the pages.
    """

    def __init__(self, config: CacheConfig, pool: BlockPool, tiers: PageTiers | None = None) -> None:
        self._pool = pool
        self._tiers = tiers
        self._block_size = config.block_size
        num_pages = 0 if tiers is None else tiers.num_pages
        self.tokens: Int32s = np.zeros((config.num_blocks + num_pages, config.block_size), np.int32)
        self.slots: Int32s = self.tokens.reshape(-1)
        self.index = TokenIndex(self.tokens)
        # Of a full block that is not registered because another one stands for its prefix: that one, and its
        # registration. So a sequence of such twins registers what follows without walking its whole path.
        self._twin_of: dict[int, tuple[int, int]] = {}

    def match(self, namespace: str, tokens: Int32s) -> "array[int]":
        """Blocks and pages of the leading tokens of a prompt; its last token is never among them."""
        num_blocks = (len(tokens) - 1) // self._block_size
        return self.index.match(namespace, tokens[: max(0, num_blocks) * self._block_size].tobytes())

    def admit(self, namespace: str, tokens: Int32s, reused: "array[int]", new: "array[int]") -> None:
        """Record and register a prompt whose leading blocks are `reused` and whose other ones are `new`."""
        size = self._block_size
        tokens = tokens[len(reused) * size :]
        self._fill(np.frombuffer(new, np.int64), tokens)
        if num_full := len(tokens) // size:
            keys = tokens[: num_full * size].tobytes()
            behind = reused[-1] if reused else None
            mark_registered(self._pool, self._insert(namespace, keys, new[:num_full], behind))

    def write(self, table: Int32s, start: int, tokens: Int32s) -> None:
        """Record tokens at positions `start` .. of a sequence with this block table."""
        size = self._block_size
        first, offset = divmod(start, size)
        if offset:  # fill the block that is begun
            head, tokens = tokens[: size - offset], tokens[size - offset :]
            self.tokens[table[first], offset : offset + len(head)] = head
            first += 1
        self._fill(table[first:], tokens)

    def _fill(self, blocks: Int32s | Int64s, tokens: Int32s) -> None:
        """Record tokens from the start of the first of these blocks on."""
        num_full, rest = divmod(len(tokens), self._block_size)
        if num_full:
            full = tokens[: len(tokens) - rest].reshape(-1, self._block_size)
            self.tokens[blocks[:num_full]] = full
        if rest:
            self.tokens[blocks[num_full], :rest] = tokens[len(tokens) - rest :]

    def register(self, namespace: str | None, table: Int32s, start: int, stop: int) -> None:
        """Put the full blocks at positions `start` .. `stop` - 1 of a block table into the index."""
        if start < stop:
            mark_registered(self._pool, self._insert_from(namespace, table, start, stop))

    def register_filled(
        self, namespaces: list[str | None], tables: Int32s, rows: Int64s, tails: Int64s
    ) -> None:
        """Put one block of each of several sequences into the index: the one that has just become full.

        Args:
            namespaces: of each row.
            tables: block tables. Shape `[num_rows, width]` (int32).
            rows: row of each sequence.
            tails: position of the block in that row.
        """
        blocks = tables[rows, tails].astype(np.int64)
        behind = tables[rows, tails - 1].astype(np.int64)
        if not tails.all():  # a first block has none before it, and nothing grows behind an unregistered one
            behind[tails == 0] = blocks[tails == 0]
        rest = self.index.grow(behind, blocks)
        self._forget_twins(blocks.tolist())
        added = array("q", (np.delete(blocks, rest) if len(rest) else blocks).tobytes())
        for i in rest.tolist():
            row, tail = int(rows[i]), int(tails[i])
            added += self._insert_from(namespaces[row], tables[row], tail, tail + 1)
        mark_registered(self._pool, added)

    def renew(self, namespace: str | None, blocks: Int64s) -> None:
        """Let the full blocks of a live sequence stand for its prefix where no block in use does.

        The cache may know the prefix by blocks that were released long ago and go with the next evictions, or
        that were evicted already.
        """
        if namespace is None or self.index.holds_all(blocks):
            return
        twin = self._standing_twin(int(blocks[-1]))
        if twin is not None and self.index.holds_all(blocks[:-1]):  # as when a prompt of full blocks returns
            self._take_over(np.array([twin]), blocks[-1:])
            return
        keys = self.tokens[blocks].tobytes()
        standing = np.frombuffer(self.index.match(namespace, keys), np.int64)
        if len(standing) < len(blocks) or self._tiers is not None:
            run = array("q", blocks.astype(np.int64).tobytes())
            mark_registered(self._pool, self._insert(namespace, keys, run, None))
            if self._tiers is not None:  # no page stands there any more
                standing = np.frombuffer(self.index.match(namespace, keys), np.int64)
        self._take_over(standing, blocks[: len(standing)])

    def _take_over(self, standing: Int64s, own: Int64s) -> None:
        """Register blocks in use in the place of those that stand for their prefixes and are idle."""
        idle = (standing != own) & (self._pool.ref_counts(standing) == 0)
        if idle.any():
            now = own[idle].astype(np.int64)
            stand_for(self._pool, self.index, standing[idle], now, self._tiers)

    def _standing_twin(self, block: int) -> int | None:
        """The registered block that stands for the prefix of an unregistered one, if it is known."""
        twin, registration = self._twin_of.get(block, (block, 0))
        return twin if registration and self.index.registration(twin) == registration else None

    def _insert_from(self, namespace: str | None, table: Int32s, start: int, stop: int) -> "array[int]":
        """Register blocks of a table behind the one before them or its twin, or else by their whole path."""
        if namespace is None:
            return array("q")
        behind = int(table[start - 1]) if start else None
        if behind is not None and behind not in self.index:
            behind = self._standing_twin(behind)
            if behind is None:
                start = 0
        blocks = table[start:stop]
        run = array("q", blocks.astype(np.int64).tobytes())
        return self._insert(namespace, self.tokens[blocks].tobytes(), run, behind)

    def _insert(self, namespace: str, keys: bytes, blocks: "array[int]", behind: int | None) -> "array[int]":
        found, added = self.index.insert(namespace, keys, blocks, behind)
        self._forget_twins(blocks)
        if found and self._tiers is not None:
            found = self._replace_pages(self._tiers, found, blocks)
        if not added and found[-1] != blocks[-1]:
            self._twin_of[blocks[-1]] = (found[-1], self.index.registration(found[-1]))
        return added

    def _replace_pages(self, tiers: PageTiers, found: "array[int]", blocks: "array[int]") -> "array[int]":
        """Let blocks in use stand where pages do; returns what stands for each of these prefixes now."""
        standing = np.array(found, np.int64)
        is_page = standing >= tiers.first_page
        if not is_page.any():
            return found
        own = np.frombuffer(blocks, np.int64)[: len(standing)]
        stand_for(self._pool, self.index, standing[is_page], own[is_page], tiers)
        standing[is_page] = own[is_page]
        return array("q", standing.tobytes())

    def _forget_twins(self, blocks: Iterable[int]) -> None:
        """Blocks have new content, so what they were twins of says nothing any more."""
        if self._twin_of:
            for block in blocks:
                self._twin_of.pop(block, None)

    def copy(self, source: int, destination: int) -> None:
        """Do to the tokens what the copy kernel does to the KV."""
        self.tokens[destination] = self.tokens[source]

    def check_integrity(self) -> None:
        """Check that the index knows every block by the tokens that it holds.

        Raises:
            InvariantError: it does not.
        """
        for blocks, keys in self.index.paths():
            if self.tokens[np.array(blocks, np.int64)].tobytes() != keys:
                raise InvariantError(f"the index knows blocks {list(blocks)} by tokens that they do not hold")
