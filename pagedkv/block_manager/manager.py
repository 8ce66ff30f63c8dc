"""The block manager: which blocks a sequence has, and where its next tokens go."""

from array import array
from collections.abc import Hashable, Sequence

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.block_manager.contents import TokenContents
from pagedkv.block_manager.copy_on_write import CopyOnWrite
from pagedkv.block_manager.paging import PagedPrefix, PageIn
from pagedkv.block_manager.placement import BatchPlacement, Placement
from pagedkv.block_manager.registration import mark_registered, stand_for, unregister
from pagedkv.block_manager.token_ids import TokenIds, as_token_ids, require_block_ids, require_namespace
from pagedkv.block_manager.view import CacheView
from pagedkv.config import CacheConfig
from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.events import (
    PrefixLookup,
    SequenceAdmitted,
    SequenceForked,
    SequenceReleased,
    SequenceTruncated,
    StepBooked,
    TokensAppended,
)
from pagedkv.offload.tiers import TiersFactory
from pagedkv.prefix_cache import IdIndex

__all__ = ["BlockManager"]

_NO_BLOCKS = array("q")


class BlockManager(CacheView):
    """Live sequences over one `BlockPool`, with prefix reuse and copy-on-write.

    A sequence of n tokens holds ceil(n / block_size) blocks. A block may belong to several sequences; a write
    to one that does is preceded by a copy, which the call that writes reports. Every call either succeeds
    whole or raises and changes nothing.

    Args:
        config: settings of the cache.
        tiers: makes what keeps the content of evicted blocks; None for nothing, so that it is lost.

    Attributes:
        config: the settings.
        pool: the blocks. Read it freely; only the manager may call what changes it.
        events: the stream that everything done here is told to.
        tiers: what keeps pages of evicted blocks; None if nothing does.

    Raises:
        ConfigError: there are to be tiers, and prefix caching is off.
    """

    def __init__(self, config: CacheConfig, tiers: TiersFactory | None = None) -> None:
        super().__init__(config, tiers)
        self.pool.on_evict = self._forget_evicted if self._paging is None else self._paging.keep_evicted
        self._cow = CopyOnWrite(
            self.pool, self._sequences, self._steps, self._contents, self._index, self.tiers
        )

    # ---- sequences come and go

    def admit(self, seq_id: int, token_ids: TokenIds, namespace: str = "") -> Placement:
        """Give a new sequence its blocks, reusing those that hold its leading tokens already.

        Reuse is exact: blocks are compared token by token within the namespace. The last token is never
        reused, so that there is always one to compute. Full blocks are registered at once; their KV has to be
        written by the step that this admission belongs to.

        Args:
            seq_id: an id that is not live.
            token_ids: the prompt, or its first chunk. Shape `[num_tokens]`, ints that fit int32.
            namespace: prefixes of different namespaces never match (adapters, tenants, cache salts).

        Raises:
            DuplicateSequence: the id is live.
            InvalidRequest: the id or a token is not what it must be.
            ConfigError: the cache takes ready ids (`admit_keys`).
            OutOfBlocks: not enough blocks; needs those beyond the reused ones.
        """
        if self._ids is not None:
            raise ConfigError('prefix_keys is "ids", so prompts come with their block ids: call admit_keys')
        self._sequences.require_new(seq_id)
        require_namespace(namespace)
        tokens = as_token_ids(token_ids)
        contents = self._contents
        reused = self._leading_blocks(self._match(namespace, tokens))
        new = self._open(seq_id, namespace, reused, len(tokens))
        if contents is not None:
            contents.admit(namespace, tokens, reused, new)
            self._emit_lookup(len(tokens), (len(tokens) - 1) // self._block_size, len(reused))
        return self._admitted(seq_id, len(tokens), len(reused))

    def admit_keys(
        self,
        seq_id: int,
        block_ids: Sequence[Hashable],
        *,
        num_prompt_tokens: int,
        num_tokens: int | None = None,
    ) -> Placement:
        """`admit` for callers that know prefix-chained ids of the prompt's blocks, and no tokens.

        Args:
            seq_id: an id that is not live.
            block_ids: ids of the prompt's blocks, in order; equal ids mean equal prefixes. A last id that
                stands for a partly filled block is neither looked up nor registered.
            num_prompt_tokens: length of the prompt.
            num_tokens: length to reserve blocks for at once; that of the prompt by default.

        Raises:
            DuplicateSequence: the id is live.
            InvalidRequest: negative lengths, a total below the prompt's, or ids that are not hashable, None,
                or not distinct.
            ConfigError: the cache compares tokens (`admit`).
            OutOfBlocks: not enough blocks; needs those beyond the reused ones.
        """
        index = self._ids
        if self.config.prefix_keys != "ids":
            raise ConfigError('admit_keys needs CacheConfig(prefix_keys="ids")')
        total = num_prompt_tokens if num_tokens is None else num_tokens
        if not (
            isinstance(num_prompt_tokens, int) and isinstance(total, int) and 0 <= num_prompt_tokens <= total
        ):
            raise InvalidRequest(
                f"a prompt of {num_prompt_tokens!r} tokens does not fit a total of {total!r}"
            )
        self._sequences.require_new(seq_id)
        full = _checked_ids(block_ids, num_prompt_tokens // self._block_size)
        num_lookup = min(len(full), max(0, num_prompt_tokens - 1) // self._block_size)
        reused = _NO_BLOCKS if index is None else self._leading_blocks(index.match(full[:num_lookup]))
        new = self._open(seq_id, "", reused, total)
        num_reused = len(reused)
        if index is not None:
            self._insert_ids(index, full[num_reused:], new[: len(full) - num_reused])
            self._emit_lookup(num_prompt_tokens, num_lookup, num_reused)
        return self._admitted(seq_id, total, num_reused)

    def fork(self, parent_id: int, child_id: int) -> Placement:
        """Start a sequence that shares all blocks of a live one, as samples and beams of one prompt do.

        With fork_mode="lazy" a partly filled last block is shared too, and the first of the two to write to
        it gets a copy then. With "eager" the child gets its copy now. With "full_blocks" the child has the
        tokens of the full blocks only (`num_tokens`), and the caller appends the rest.

        Raises:
            UnknownSequence: the parent is not live.
            DuplicateSequence: the child's id is live.
            OutOfBlocks: an eager copy needs a block, and there is none.
        """
        sequences = self._sequences
        parent = sequences.row(parent_id)
        sequences.require_new(child_id)
        num_tokens = int(sequences.num_tokens[parent])
        blocks = self._blocks(parent)
        if self.config.fork_mode == "full_blocks":
            num_tokens -= num_tokens % self._block_size
            blocks = blocks[: num_tokens // self._block_size]
        partial = num_tokens % self._block_size != 0
        own = self.pool.allocate(1) if partial and self.config.fork_mode == "eager" else _NO_BLOCKS
        shared = blocks[: len(blocks) - len(own)]
        self.pool.share(shared)
        child = self._place(child_id, sequences.namespaces[parent], shared, own, num_tokens)
        if partial and not own:
            sequences.guard(parent, True)
            sequences.guard(child, True)
        copies = [(int(blocks[-1]), own[0])] if own else []
        self._cow.record(copies, at_fork=True)
        if (emit := self.events.emit) is not None:
            emit(SequenceForked(parent_id, child_id, len(shared)))
        return Placement(0, copies)

    def release(self, seq_id: int) -> None:
        """End a sequence. Blocks without another owner become free, last one first, so that tails go first.

        If a step that reads them is in flight (`begin_step`), its references are kept until that is retired.

        Raises:
            UnknownSequence: it is not live.
        """
        row = self._sequences.row(seq_id)
        blocks = self._blocks(row)
        if self._contents is not None:
            num_full = int(self._sequences.num_tokens[row]) // self._block_size
            self._contents.renew(self._sequences.namespaces[row], blocks[:num_full])
        deferred = self._steps.give_back(row, blocks[::-1])
        self._sequences.close(seq_id)
        if (emit := self.events.emit) is not None:
            emit(SequenceReleased(seq_id, len(blocks), deferred))

    # ---- sequences grow and shrink

    def append(self, seq_id: int, token_ids: TokenIds) -> Placement:
        """Add tokens behind a sequence; copy-on-write happens here.

        Raises:
            UnknownSequence: it is not live.
            InvalidRequest: a token is not an int that fits int32.
            OutOfBlocks: not enough blocks.
        """
        sequences = self._sequences
        row = sequences.row(seq_id)
        tokens = as_token_ids(token_ids)
        if not len(tokens):
            return Placement()
        length = int(sequences.num_tokens[row])
        copies = self._grow(row, len(tokens))
        if self._contents is not None:
            table = sequences.tables[row]
            self._contents.write(table, length, tokens)
            first, stop = length // self._block_size, (length + len(tokens)) // self._block_size
            self._contents.register(sequences.namespaces[row], table, first, stop)
        self._emit_appended(1, len(tokens), len(copies))
        return Placement(0, copies)

    def append_keys(self, seq_id: int, block_ids: Sequence[Hashable], *, num_tokens: int) -> Placement:
        """`append` for callers that know prefix-chained ids of blocks, and no tokens.

        Args:
            seq_id: a live sequence.
            block_ids: ids of the blocks that these tokens fill, from the block on that the first of them
                goes to; fewer, where the rest is not to be shared.
            num_tokens: tokens to add.

        Raises:
            UnknownSequence: it is not live.
            InvalidRequest: a negative number, or ids that are not hashable, None, or not distinct.
            ConfigError: the cache compares tokens (`append`).
            OutOfBlocks: not enough blocks.
        """
        if self.config.prefix_keys != "ids":
            raise ConfigError('append_keys needs CacheConfig(prefix_keys="ids")')
        sequences = self._sequences
        row = sequences.row(seq_id)
        if not _is_int(num_tokens) or num_tokens < 0:
            raise InvalidRequest(f"asked for {num_tokens!r} more tokens; the number must not be negative")
        if not num_tokens:
            return Placement()
        length = int(sequences.num_tokens[row])
        first, stop = length // self._block_size, (length + num_tokens) // self._block_size
        full = _checked_ids(block_ids, stop - first)
        copies = self._grow(row, num_tokens)
        if self._ids is not None and sequences.namespaces[row] is not None:
            blocks = sequences.tables[row, first : first + len(full)].tolist()
            self._insert_ids(self._ids, full, array("q", blocks))
        self._emit_appended(1, num_tokens, len(copies))
        return Placement(0, copies)

    def register_keys(self, seq_id: int, block_ids: Sequence[Hashable]) -> None:
        """Let the leading full blocks of a sequence be found by ready ids, also those of decoded tokens.

        Args:
            seq_id: a live sequence, whose KV is computed.
            block_ids: prefix-chained ids of its blocks, in order; fewer, where the rest is not to be shared.

        Raises:
            UnknownSequence: it is not live.
            InvalidRequest: ids that are not hashable, None, or not distinct.
            ConfigError: the cache compares tokens.
        """
        if self.config.prefix_keys != "ids":
            raise ConfigError('register_keys needs CacheConfig(prefix_keys="ids")')
        sequences = self._sequences
        row = sequences.row(seq_id)
        full = _checked_ids(block_ids, int(sequences.num_tokens[row]) // self._block_size)
        if self._ids is not None and sequences.namespaces[row] is not None:
            self._insert_ids(self._ids, full, array("q", sequences.tables[row, : len(full)].tolist()))

    def append_batch(self, seq_ids: Sequence[int], token_ids: TokenIds) -> BatchPlacement:
        """One decode step: add one token behind each of the sequences. O(new blocks) plus vector operations.

        Args:
            seq_ids: distinct live sequences.
            token_ids: one token for each. Shape `[len(seq_ids)]`, ints that fit int32.

        Raises:
            UnknownSequence: one of them is not live.
            DuplicateSequence: one of them is named twice.
            InvalidRequest: the numbers differ, or a token is not an int that fits int32.
            OutOfBlocks: not enough blocks for the whole batch.
        """
        sequences = self._sequences
        rows = sequences.rows_of(seq_ids)
        tokens = as_token_ids(token_ids)
        if len(tokens) != len(rows):
            raise InvalidRequest(f"{len(rows)} sequences, but {len(tokens)} tokens; a step adds one to each")
        lengths = sequences.num_tokens[rows]
        tails, offsets = self._split(lengths)
        starts = (offsets == 0).nonzero()[0]
        writers = self._cow.plan(rows, lengths, self._block_size)
        new = self.pool.allocate(len(starts) + len(writers.sharing))
        copies = self._cow.run(writers, new[len(starts) :])
        if len(starts):
            sequences.make_room(max(tails[starts].tolist()) + 1)
            sequences.tables[rows[starts], tails[starts]] = new[: len(starts)]
        slots = sequences.tables[rows, tails] * np.int64(self._block_size) + offsets
        sequences.num_tokens[rows] = lengths + 1
        if self._contents is not None:
            self._contents.slots[slots] = tokens
            self._register_filled(self._contents, rows, tails, offsets)
        self._emit_step(len(rows), len(new), len(copies))
        return BatchPlacement(slots, rows, copies)

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        """Cut a sequence back to its first `num_tokens` tokens, as rejected draft tokens ask for.

        Blocks behind them are released. A last block that is then partly filled keeps its content, and stays
        in the prefix cache, until it is written again.

        Raises:
            UnknownSequence: it is not live.
            InvalidRequest: `num_tokens` is negative or beyond its length.
        """
        sequences = self._sequences
        row = sequences.row(seq_id)
        length = int(sequences.num_tokens[row])
        if not _is_int(num_tokens) or not 0 <= num_tokens <= length:
            raise InvalidRequest(
                f"sequence {seq_id} has {length} tokens; it cannot be cut back to {num_tokens!r}"
            )
        keep = -(-num_tokens // self._block_size)
        blocks = self._blocks(row)
        if keep < len(blocks):
            self._steps.give_back(row, blocks[keep:][::-1])
        if num_tokens < length:
            sequences.num_tokens[row] = num_tokens
            sequences.guard(row, num_tokens % self._block_size != 0)
        if (emit := self.events.emit) is not None:
            emit(SequenceTruncated(seq_id, int(num_tokens), length - int(num_tokens)))
        return Placement()

    # ---- steps in flight

    def begin_step(self, seq_ids: Sequence[int]) -> int:
        """Say that a step that reads these sequences' blocks is now in flight; returns its number.

        Raises:
            UnknownSequence: one of them is not live.
            DuplicateSequence: one of them is named twice.
        """
        return self._steps.begin(seq_ids)

    def retire_step(self, step: int) -> None:
        """Say that a step is done, and with it every earlier one; blocks that waited for them become free.

        Raises:
            InvalidRequest: the step is not in flight.
        """
        self._steps.retire(step)

    # ---- the prefix cache as a whole

    def reset_prefix_cache(self) -> None:
        """Forget every cached prefix; blocks stay with their sequences, or in the free queue.

        What live sequences and their forks hold and write from now on rests on KV from before the reset, so
        it does not enter the cache either.
        """
        self._sequences.bar_from_registration()
        if self._index is not None:
            unregister(self.pool, self._index, np.array(self._index.blocks(), np.int64), tiers=self.tiers)

    # ---- pages below the device

    def begin_page_in(self, prefix: PagedPrefix, *, is_ahead: bool = False) -> PageIn:
        """Start to bring the pages of a prefix into blocks, and hold on to all of it until `end_page_in`.

        When all have come, `poll_page_ins` returns it, and `admit` reuses the prefix. Pages that are on their
        way already are waited for, and not loaded twice. Those that fail are forgotten.

        Args:
            prefix: what `paged_prefix` has just returned; other calls make it void.
            is_ahead: the turn of whoever wants it has not come; for the event.

        Raises:
            InvalidRequest: the prefix has no pages, or is not what it was.
            OutOfBlocks: not enough blocks; needs `prefix.num_blocks_needed`.
        """
        return self._require_paging().begin(prefix, is_ahead)

    def poll_page_ins(self) -> list[PageIn]:
        """Page-ins that have ended since the last call, but those that were given up.

        What has come is cached now. The references are held until `end_page_in`.
        """
        return [] if self._paging is None else self._paging.poll()

    def end_page_in(self, page_in: PageIn) -> None:
        """Let go of a prefix: after its admission, or because nobody waits for it any more.

        What is on its way comes nevertheless, and its blocks are not free before; what was not begun to be
        read from a file, and nobody else waits for, stays there. A second call does nothing.
        """
        self._require_paging().end(page_in)

    # ---- how

    def _leading_blocks(self, found: "array[int]") -> "array[int]":
        return found if self._paging is None else self._paging.leading_blocks(found)

    def _insert_ids(self, index: IdIndex, ids: Sequence[Hashable], blocks: "array[int]") -> None:
        """Register blocks in use by ready ids; they take over from pages."""
        mark_registered(self.pool, index.insert(ids, blocks))
        if self.tiers is not None:
            standing, own = np.array(index.standing(ids), np.int64), np.array(blocks, np.int64)
            is_page = standing >= self.tiers.first_page
            if is_page.any():
                stand_for(self.pool, index, standing[is_page], own[is_page], self.tiers)

    def _grow(self, row: int, num_tokens: int) -> Sequence[tuple[int, int]]:
        """Give a row slots for so many more tokens; returns the copies that this takes."""
        sequences = self._sequences
        length = int(sequences.num_tokens[row])
        num_blocks = -(-length // self._block_size)
        num_new = -(-(length + num_tokens) // self._block_size) - num_blocks
        writers = self._cow.plan(np.array([row]), sequences.num_tokens[row : row + 1], self._block_size)
        new = self.pool.allocate(num_new + len(writers.sharing))
        copies = self._cow.run(writers, new[num_new:])
        sequences.make_room(num_blocks + num_new)
        sequences.tables[row, num_blocks : num_blocks + num_new] = new[:num_new]
        sequences.num_tokens[row] = length + num_tokens
        return copies

    def _open(
        self, seq_id: int, namespace: str | None, reused: "array[int]", num_tokens: int
    ) -> "array[int]":
        """Make a sequence live on reused blocks and as many new ones as it needs, which are returned."""
        num_new = -(-num_tokens // self._block_size) - len(reused)
        self.pool.require(num_new, keep=reused)
        if reused:
            self.pool.reuse(reused)
        try:
            new = self.pool.allocate(num_new)
        except BaseException:
            self.pool.free(reused[::-1])
            raise
        self._place(seq_id, namespace, reused, new, num_tokens)
        return new

    def _place(
        self,
        seq_id: int,
        namespace: str | None,
        shared: "array[int] | Int64s",
        new: "array[int]",
        num_tokens: int,
    ) -> int:
        """Give a sequence a row on blocks whose references it has."""
        num_blocks = len(shared) + len(new)
        row = self._sequences.open(seq_id, namespace, num_blocks)
        table = self._sequences.tables[row]
        table[: len(shared)] = shared
        table[len(shared) : num_blocks] = new
        self._sequences.num_tokens[row] = num_tokens
        return row

    def _register_filled(self, contents: TokenContents, rows: Int64s, tails: Int64s, offsets: Int64s) -> None:
        """Register the blocks whose last slot this step fills."""
        ends = (offsets == self._block_size - 1).nonzero()[0]
        if len(ends):
            sequences = self._sequences
            contents.register_filled(sequences.namespaces, sequences.tables, rows[ends], tails[ends])

    def _forget_evicted(self, blocks: Int64s) -> None:
        """The pool has handed out blocks with cached content: take them out of the index."""
        if self._index is not None:
            unregister(self.pool, self._index, blocks, num_evicted=len(blocks))

    # ---- what is told

    def _admitted(self, seq_id: int, num_tokens: int, num_reused: int) -> Placement:
        num_cached_tokens = num_reused * self._block_size
        if (emit := self.events.emit) is not None:
            emit(SequenceAdmitted(seq_id, num_tokens, num_cached_tokens))
        return Placement(num_cached_tokens)

    def _emit_lookup(self, num_tokens: int, num_blocks: int, num_hits: int) -> None:
        if (emit := self.events.emit) is not None:
            emit(PrefixLookup(num_tokens, max(0, num_blocks), num_hits, num_hits * self._block_size))

    def _emit_appended(self, num_sequences: int, num_tokens: int, num_copies: int) -> None:
        if (emit := self.events.emit) is not None:
            emit(TokensAppended(num_sequences, num_tokens, num_copies))

    def _emit_step(self, batch_size: int, num_allocated: int, num_copies: int) -> None:
        if (emit := self.events.emit) is not None:
            self._emit_appended(batch_size, batch_size, num_copies)
            pool = self.pool
            emit(
                StepBooked(batch_size, num_allocated - num_copies, num_copies, pool.num_free, pool.num_blocks)
            )


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer))


def _checked_ids(block_ids: Sequence[Hashable], num_full: int) -> Sequence[Hashable]:
    """The ids of the prompt's full blocks: at most `num_full`, hashable and distinct."""
    try:
        full = block_ids[:num_full]
    except (TypeError, KeyError):
        raise InvalidRequest(f"block ids must be a sequence of hashable ids, got {block_ids!r:.80}") from None
    require_block_ids(full)
    return full
