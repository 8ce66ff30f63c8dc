"""Which blocks hold which prefix: the index of the reference cache."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from pytest_pagedkv.adapter import KVCacheAdapter

__all__ = ["Entry", "IndexedCache"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index knows of a full block.

    Attributes:
        digest: chained hash of the prefix.
        namespace: of the sequence that filled it.
        prefix: every token from the start of the sequence to the end of the block.
    """

    digest: int
    namespace: str
    prefix: tuple[int, ...]


class IndexedCache(KVCacheAdapter):
    """The part of a cache that finds blocks by the prefix they hold: under a chained hash, then by tokens."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self._index: dict[int, OrderedDict[int, None]] = {}  # blocks by digest; twins have one each
        self._entries: dict[int, Entry] = {}
        self._num_hash_bits = 64

    def weaken_hash(self, num_bits: int) -> None:
        """Keep so many bits of each digest."""
        self._num_hash_bits = num_bits

    def _match(self, namespace: str, token_ids: Sequence[int]) -> list[int]:
        """Blocks that hold the leading tokens of a prompt."""
        hits: list[int] = []
        for entry in self._entries_of(namespace, token_ids[: self._num_matchable(len(token_ids))]):
            block = self._find(entry)
            if block is None:
                break
            hits.append(block)
        return hits

    def _num_matchable(self, num_tokens: int) -> int:
        """Leading tokens that may be hit: all but the last, which is left to compute."""
        return num_tokens - 1

    def _find(self, entry: Entry) -> int | None:
        blocks = self._index.get(entry.digest, ())
        return next((block for block in blocks if self._holds(block, entry)), None)

    def _holds(self, block: int, entry: Entry) -> bool:
        """Digests are equal; are the prefixes?"""
        return self._entries.get(block) == entry

    def _enter(self, block: int, entry: Entry) -> None:
        self._entries[block] = entry
        self._index.setdefault(entry.digest, OrderedDict())[block] = None

    def _unregister(self, block: int) -> None:
        entry = self._entries.pop(block, None)
        if entry is not None:
            blocks = self._index[entry.digest]
            del blocks[block]
            if not blocks:
                del self._index[entry.digest]

    def _entries_of(self, namespace: str, token_ids: Sequence[int]) -> list[Entry]:
        """What the index would know of each full block of these tokens."""
        entries, digest = [], self._root(namespace)
        for stop in range(self.block_size, len(token_ids) + 1, self.block_size):
            digest = self._digest(digest, tuple(token_ids[stop - self.block_size : stop]))
            entries.append(Entry(digest, namespace, tuple(token_ids[:stop])))
        return entries

    def _root(self, namespace: str) -> int:
        """The digest that the first block of a sequence is chained to."""
        return self._shorten(namespace.encode())

    def _digest(self, behind: int, tokens: tuple[int, ...]) -> int:
        """The digest of a block behind a prefix."""
        return self._shorten(repr((behind, tokens)).encode())

    def _shorten(self, content: bytes) -> int:
        digest = blake2b(content, digest_size=8).digest()
        return int.from_bytes(digest, "big") >> (64 - self._num_hash_bits)

    def _clear_index(self) -> None:
        self._index.clear()
        self._entries.clear()
