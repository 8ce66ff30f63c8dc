"""The reading half of the block manager: everything that can be asked, nothing that changes anything."""

from array import array
from collections.abc import Hashable, Sequence

import numpy as np

from pagedkv import logs
from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_manager import measures
from pagedkv.block_manager.contents import TokenContents
from pagedkv.block_manager.copied import CacheCopy
from pagedkv.block_manager.paging import PagedPrefix, Paging
from pagedkv.block_manager.placement import Fragmentation, PrefixHit
from pagedkv.block_manager.sequence_table import SequenceTable
from pagedkv.block_manager.steps import StepsInFlight
from pagedkv.block_manager.token_ids import TokenIds, as_token_ids, require_block_ids, require_namespace
from pagedkv.block_pool import BlockPool
from pagedkv.config import CacheConfig
from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.events import EventStream
from pagedkv.offload.tiers import PageTiers, TiersFactory
from pagedkv.prefix_cache import IdIndex, TokenIndex

__all__ = ["CacheView"]

_NO_BLOCKS = array("q")


class CacheView:
    """The state of a cache, and what can be read off it.

    Attributes:
        config: the settings.
        pool: the blocks. Read it freely; only the manager may call what changes it.
        events: the stream that everything done to the cache is told to.
        tiers: what keeps pages of evicted blocks; None if nothing does.
    """

    def __init__(self, config: CacheConfig, tiers: TiersFactory | None = None) -> None:
        self.config = config
        self.events = EventStream()
        self.tiers = None if tiers is None else _made(tiers, config, self.events)
        self.pool = BlockPool(config.num_blocks, events=self.events)
        self._block_size = size = config.block_size
        self._shift = size.bit_length() - 1 if size & (size - 1) == 0 else None  # of a power of two
        self._sequences = SequenceTable()
        self._steps = StepsInFlight(self.pool, self._sequences)
        by_tokens = config.prefix_caching and config.prefix_keys == "tokens"
        by_ids = config.prefix_caching and config.prefix_keys == "ids"
        num_pages = 0 if self.tiers is None else self.tiers.num_pages
        self._contents = TokenContents(config, self.pool, self.tiers) if by_tokens else None
        self._ids = IdIndex(config.num_blocks + num_pages) if by_ids else None
        self._paging: Paging | None = None
        if self.tiers is not None and self._index is not None:
            tokens = None if self._contents is None else self._contents.tokens
            self._paging = Paging(self.pool, self._index, self.tiers, tokens, config.block_size)
        logs.attach_if_asked(self)

    @property
    def block_tables(self) -> Int32s:
        """The block tables of all rows, for kernels: a read-only view that is valid until the next change.

        Row `row(seq_id)`, or `BatchPlacement.rows`; the entries behind a sequence's blocks mean nothing.
        Shape `[num_rows, width]` (int32).
        """
        return _read_only(self._sequences.tables[:])

    def block_table(self, seq_id: int) -> Int32s:
        """Blocks of a sequence, in order: a read-only view that is valid until the next change.

        Shape `[ceil(num_tokens / block_size)]` (int32).

        Raises:
            UnknownSequence: it is not live.
        """
        row = self._sequences.row(seq_id)
        return _read_only(self._sequences.tables[row, : self._num_blocks(row)])

    def row(self, seq_id: int) -> int:
        """Row of a sequence in `block_tables`; it keeps it until it is released."""
        return self._sequences.row(seq_id)

    def num_tokens(self, seq_id: int) -> int:
        """Length of a sequence, in tokens."""
        return int(self._sequences.num_tokens[self._sequences.row(seq_id)])

    def slot_mapping(self, seq_id: int, start: int, stop: int) -> Int64s:
        """Flat slots of a sequence's positions `start` .. `stop` - 1. Shape `[stop - start]` (int64).

        Raises:
            UnknownSequence: it is not live.
            InvalidRequest: it has no such positions.
        """
        length = self.num_tokens(seq_id)
        if not 0 <= start <= stop <= length:
            raise InvalidRequest(
                f"sequence {seq_id} has positions 0 to {length}; {start} to {stop} are not in them"
            )
        block, offset = self._split(np.arange(start, stop))
        return self.block_table(seq_id)[block] * np.int64(self._block_size) + offset

    def seq_ids(self) -> list[int]:
        """Ids of the live sequences, oldest first."""
        return self._sequences.seq_ids()

    @property
    def num_sequences(self) -> int:
        """Live sequences."""
        return len(self._sequences)

    @property
    def num_cached_blocks(self) -> int:
        """Blocks in the prefix cache, in use or idle."""
        index = self._index
        num_pages = 0 if self.tiers is None else self.tiers.num_kept
        return 0 if index is None else len(index) - num_pages

    @property
    def num_deferred_blocks(self) -> int:
        """References that wait for a step in flight."""
        return sum(map(len, self._steps.waiting_blocks()))

    def lookup(self, token_ids: TokenIds, namespace: str = "") -> int:
        """Leading tokens of a prompt that `admit` would reuse now; changes nothing.

        Raises:
            InvalidRequest: a token is not an int that fits int32.
            ConfigError: the cache takes ready ids, and knows no tokens.
        """
        return self.prefix_hit(token_ids, namespace).num_tokens

    def prefix_hit(self, token_ids: TokenIds, namespace: str = "") -> PrefixHit:
        """What `admit` would reuse of a prompt now; changes nothing.

        Raises:
            InvalidRequest: a token is not an int that fits int32.
            ConfigError: the cache takes ready ids, and knows no tokens.
        """
        if self._ids is not None:
            raise ConfigError('prefix_keys is "ids", so the cache knows no tokens to look up')
        require_namespace(namespace)
        tokens = as_token_ids(token_ids)
        return self._hit(self._match(namespace, tokens))

    def prefix_hit_keys(self, block_ids: Sequence[Hashable], *, num_tokens: int) -> PrefixHit:
        """What `admit_keys` would reuse of a prompt of this length now; changes nothing.

        Raises:
            ConfigError: the cache compares tokens.
        """
        if self.config.prefix_keys != "ids":
            raise ConfigError('prefix_keys is "tokens", so the cache knows no ids to look up')
        return self._hit(self._match_ids(block_ids, num_tokens))

    def paged_prefix(
        self, token_ids: TokenIds, namespace: str = "", *, max_pages: int | None = None
    ) -> PagedPrefix:
        """The longest prefix of a prompt whose KV is on the device or in the tiers; changes nothing.

        Args:
            token_ids: the prompt. Shape `[num_tokens]`, ints that fit int32.
            namespace: prefixes of different namespaces never match.
            max_pages: end the prefix before it has more pages to ask for than this.

        Raises:
            InvalidRequest: a token is not an int that fits int32.
            ConfigError: the cache takes ready ids, and knows no tokens; or there are no tiers.
        """
        if self._ids is not None:
            raise ConfigError('prefix_keys is "ids", so the cache knows no tokens to look up')
        require_namespace(namespace)
        return self._require_paging().prefix(self._match(namespace, as_token_ids(token_ids)), max_pages)

    def paged_prefix_keys(
        self, block_ids: Sequence[Hashable], *, num_tokens: int, max_pages: int | None = None
    ) -> PagedPrefix:
        """`paged_prefix` of a prompt of this length, by ready ids; changes nothing.

        Raises:
            InvalidRequest: ids that are not hashable, None, or not distinct.
            ConfigError: the cache compares tokens; or there are no tiers.
        """
        if self.config.prefix_keys != "ids":
            raise ConfigError('prefix_keys is "tokens", so the cache knows no ids to look up')
        paging = self._require_paging()
        known = block_ids[: max(0, num_tokens - 1) // self._block_size]
        require_block_ids(known)
        return paging.prefix(self._match_ids(known, num_tokens), max_pages)

    def refcount_hist(self) -> dict[str, int]:
        """How many blocks have one, two, or more references, as `{"1": .., "2": .., "3+": ..}`."""
        return self.pool.refcount_hist()

    def internal_fragmentation(self) -> float:
        """1 - written slots of live sequences / slots of the blocks in use; 0.0 with no block in use."""
        return measures.internal_ratio(
            self.pool, self._sequences, self._block_size, self._steps.any_waits, self._num_coming
        )

    def fragmentation(self) -> Fragmentation:
        """How much of the space in use is wasted, and how scattered blocks are. O(num_blocks)."""
        return measures.fragmentation(
            self.pool, self._sequences, self._block_size, self._steps.any_waits, self._num_coming
        )

    def copied(self) -> CacheCopy:
        """What there is now, in arrays of its own, for whoever looks at it later. O(blocks)."""
        index = self._index
        return CacheCopy(
            pool=self.pool.copied(),
            sequences=self._sequences.copied(self._block_size),
            tree=index.copied() if isinstance(index, TokenIndex) else None,
            block_size=self._block_size,
            num_cached=self.num_cached_blocks,
            num_pages=0 if self.tiers is None else self.tiers.num_kept,
            waiting=self._steps.waiting_blocks(),
            coming=[] if self._paging is None else self._paging.held_blocks(),
        )

    def check_integrity(self) -> None:
        """Check pool, tables, reference counts and prefix cache against each other. O(num_blocks).

        Raises:
            InvariantError: with what was expected and what was found.
        """
        waiting = self._steps.waiting_blocks()
        if self._paging is not None:
            waiting += self._paging.held_blocks()
            self._paging.check_integrity()
        measures.check_integrity(self.pool, self._sequences, self._index, self._block_size, waiting)
        if self._index is not None:
            self._index.check_integrity()
        if self._contents is not None:
            self._contents.check_integrity()

    @property
    def _index(self) -> TokenIndex | IdIndex | None:
        return self._ids if self._contents is None else self._contents.index

    @property
    def _num_coming(self) -> int:
        """Blocks that are in use for no sequence yet, because prefixes are brought into them."""
        return 0 if self._paging is None else self._paging.num_blocks_alone()

    def _require_paging(self) -> Paging:
        if self._paging is None:
            raise ConfigError("there are no tiers below the device: give the BlockManager some")
        return self._paging

    def _split(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Positions in sequences as (position in the block table, offset in the block)."""
        if self._shift is None:
            return np.divmod(positions, self._block_size)
        return positions >> self._shift, positions & (self._block_size - 1)

    def _match(self, namespace: str, tokens: Int32s) -> "array[int]":
        """Blocks and pages of the longest prefix of a prompt that is known and can be reused."""
        return _NO_BLOCKS if self._contents is None else self._contents.match(namespace, tokens)

    def _match_ids(self, block_ids: Sequence[Hashable], num_tokens: int) -> "array[int]":
        """The same by ready ids."""
        if self._ids is None:
            return _NO_BLOCKS
        return self._ids.match(block_ids[: max(0, num_tokens - 1) // self._block_size])

    def _hit(self, found: "array[int]") -> PrefixHit:
        blocks = found if self._paging is None else self._paging.leading_blocks(found)
        return PrefixHit(len(blocks) * self._block_size, self.pool.num_idle(blocks))

    def _num_blocks(self, row: int) -> int:
        return -(-int(self._sequences.num_tokens[row]) // self._block_size)

    def _blocks(self, row: int) -> Int64s:
        """Blocks of a row, a copy."""
        return self._sequences.tables[row, : self._num_blocks(row)].astype(np.int64)


def _made(tiers: TiersFactory, config: CacheConfig, events: EventStream) -> PageTiers:
    if not config.prefix_caching:
        raise ConfigError(
            "prefix_caching is off, so nothing is known about evicted blocks: no tiers can keep them"
        )
    return tiers(first_page=config.num_blocks, events=events)


def _read_only(view: Int32s) -> Int32s:
    view.flags.writeable = False
    return view
