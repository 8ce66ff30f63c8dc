"""Prefixes that lead through pages: what becomes of evicted blocks, and how pages become blocks again."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_manager.content_keys import ContentKeys
from pagedkv.block_manager.registration import stand_for, unregister
from pagedkv.block_pool import BlockPool
from pagedkv.errors import InvalidRequest, InvariantError
from pagedkv.events import PageInEnded, PageInStarted
from pagedkv.offload.tiers import PagedIn, PageTiers
from pagedkv.prefix_cache import IdIndex, TokenIndex

if TYPE_CHECKING:
    from array import array

__all__ = ["PageIn", "PagedPrefix", "Paging"]

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class PagedPrefix:
    """The longest prefix of a prompt whose KV is somewhere. It is void when the cache changes.

    Attributes:
        num_tokens: its length, in tokens; the last token of the prompt is never in it.
        num_cached_tokens: leading tokens of it that are on the device: what `admit` would reuse now.
        ids: its blocks and pages, in order. Shape `[num_tokens / block_size]` (int64).
        pages: those that have to be asked for, in order. Shape `[num_pages]` (int64).
        num_rising: pages in it that somebody has asked for already.
        num_blocks_needed: free blocks that `begin_page_in` takes: one for each page, and the idle ones of
            those that are on the device.
    """

    num_tokens: int = 0
    num_cached_tokens: int = 0
    ids: Int64s = field(default_factory=_NONE.copy)
    pages: Int64s = field(default_factory=_NONE.copy)
    num_rising: int = 0
    num_blocks_needed: int = 0

    @property
    def num_paged(self) -> int:
        """Pages in it, those on their way included."""
        return len(self.pages) + self.num_rising


@dataclass(slots=True, eq=False)
class PageIn:
    """A prefix on its way to the device.

    Attributes:
        num_tokens: length of the prefix.
        num_pages: pages that it waits for, or has waited for.
        num_asked: those of them that nobody else had asked for before, and that were not taken back.
        num_left: those of them that have not ended their way.
        num_from_file: pages that had to come from a file.
        since_ns: when they were asked for.
        expected_ns: how long that takes by the measured bandwidths.
        blocks: the blocks that it has references to, in the order of the prefix. Shape `[n]` (int64).
        num_failed: pages that did not come; the prefix then ends before the first of them.
        was_given_up: whether it was let go.
        num_usable: blocks of the prefix before the first page that did not come.
        num_missing: pages that it asked for, and that did not come.
    """

    num_tokens: int
    num_pages: int
    num_asked: int
    num_left: int
    num_from_file: int
    since_ns: int
    expected_ns: int
    blocks: Int64s
    num_usable: int
    num_failed: int = 0
    was_given_up: bool = False
    num_missing: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether no page of it is on its way any more."""
        return not self.num_left


class _Rising(NamedTuple):
    """A page on its way: where to, who asked for it, and who else waits for it."""

    block: int
    owner: PageIn
    others: list[PageIn]


class Paging:
    """Keeps evicted blocks as pages, and brings pages back.

    Args:
        pool: the blocks.
        index: the prefixes of blocks and pages.
        tiers: the pages.
        tokens: tokens of blocks and pages, if they are known.
            Shape `[num_blocks + num_pages, block_size]` (int32).
        block_size: tokens in a block.
    """

    def __init__(
        self,
        pool: BlockPool,
        index: TokenIndex | IdIndex,
        tiers: PageTiers,
        tokens: Int32s | None,
        block_size: int,
    ) -> None:
        self._pool = pool
        self._index = index
        self._tiers = tiers
        self._tokens = tokens
        self._block_size = block_size
        self._keys = ContentKeys(index, tokens) if tiers.needs_keys else None
        self._first_page = tiers.first_page
        self._rising: dict[int, _Rising] = {}  # by page
        self._held: dict[PageIn, None] = {}  # those that have references
        self._looked_ns = 0

    # ---- down

    def keep_evicted(self, blocks: Int64s) -> None:
        """The pool has handed out blocks with cached content: keep what the tiers take, forget the rest."""
        keys = self._keys
        try:
            pages = self._tiers.demote(blocks, None if keys is None else keys.of(blocks))
        except BaseException:
            unregister(self._pool, self._index, blocks, len(blocks), self._tiers)
            self._forget_dropped()
            raise
        kept = pages >= 0
        self._replace(blocks[kept], pages[kept])
        refused = blocks[~kept]
        if len(refused):
            unregister(self._pool, self._index, refused, len(refused), self._tiers)
        self._forget_dropped()

    # ---- up

    def leading_blocks(self, found: "array[int]") -> "array[int]":
        """The blocks of a prefix up to its first page."""
        is_page = np.frombuffer(found, np.int64) >= self._first_page
        return found[: int(is_page.argmax())] if is_page.any() else found

    def prefix(self, found: "array[int]", max_pages: int | None = None) -> PagedPrefix:
        """What is known of a prefix; if it has more pages to ask for than `max_pages`, up to there."""
        ids = np.array(found, np.int64)
        is_page = ids >= self._first_page
        rising = self._rising
        is_new = is_page.copy()
        if rising:
            is_new[is_page] = [page not in rising for page in ids[is_page].tolist()]
        if max_pages is not None and np.count_nonzero(is_new) > max_pages:
            stop = int(np.flatnonzero(is_new)[max_pages])
            ids, is_page, is_new = ids[:stop], is_page[:stop], is_new[:stop]
        pages = ids[is_new]
        num_leading = int(is_page.argmax()) if is_page.any() else len(ids)
        return PagedPrefix(
            len(ids) * self._block_size,
            num_leading * self._block_size,
            ids,
            pages,
            int(np.count_nonzero(is_page)) - len(pages),
            len(pages) + self._pool.num_idle(ids[~is_page]),
        )

    def begin(self, prefix: PagedPrefix, is_ahead: bool) -> PageIn:
        """Start to bring the pages of a prefix; see `BlockManager.begin_page_in`."""
        ids = prefix.ids
        if not prefix.num_paged or not self._index.holds_all(ids):
            raise InvalidRequest(
                f"a prefix of {len(ids)} blocks with {prefix.num_paged} pages cannot be paged in: it has no "
                "pages, or the cache has changed since; ask for it again"
            )
        is_page = ids >= self._first_page
        known = [self._rising.get(page) for page in ids.tolist()]
        is_new = is_page & np.array([one is None for one in known])
        others = [one for one in known if one is not None]
        pages = ids[is_new]
        self._pool.require(len(pages), keep=ids[~is_page])
        num_from_file = self._tiers.location(pages)[1]
        held = ids.copy()
        self._tiers.pin(pages)
        self._pool.reuse(ids[~is_page])
        self._pool.share([one.block for one in others])
        held[is_page & ~is_new] = [one.block for one in others]
        expected_ns = self._tiers.bandwidth_ns(pages) if len(pages) else 0
        try:
            held[is_new] = self._pool.allocate(len(pages))
        except BaseException:
            self._back_out(held[~is_new], pages)
            raise
        num_paged = len(pages) + len(others)
        page_in = PageIn(
            prefix.num_tokens,
            num_paged,
            len(pages),
            num_paged,
            num_from_file,
            self._tiers.now_ns(),
            expected_ns,
            held,
            len(held),
        )
        self._held[page_in] = None
        for one in others:
            one.others.append(page_in)
        self._start(page_in, pages, held[is_new], is_ahead)
        return page_in

    def poll(self) -> list[PageIn]:
        """Page-ins that have ended; see `BlockManager.poll_page_ins`."""
        ended: list[PageIn] = []
        looked_ns, self._looked_ns = self._looked_ns, self._tiers.now_ns()
        for paged_in in self._tiers.poll():
            self._arrive(paged_in)
            for page, came in zip(paged_in.pages.tolist(), paged_in.arrived.tolist(), strict=True):
                one = self._rising.pop(page)
                for page_in in (one.owner, *one.others):
                    page_in.num_left -= 1
                    if not came:
                        page_in.num_missing += page_in is one.owner
                        self._fail(page_in, one.block)
                    if not page_in.num_left:
                        ended.append(page_in)
        self._forget_dropped()
        for page_in in ended:
            if page_in.was_given_up:
                self._let_go(page_in)
            else:
                self._shorten(page_in)
            self._tell_ended(page_in, looked_ns)
        return [page_in for page_in in ended if not page_in.was_given_up]

    def end(self, page_in: PageIn) -> None:
        """Let go of a prefix; see `BlockManager.end_page_in`."""
        if page_in not in self._held or page_in.was_given_up:
            return
        page_in.was_given_up = True
        if page_in.has_ended:
            self._let_go(page_in)
            return
        for one in self._rising.values():
            if page_in in one.others:
                one.others.remove(page_in)
        own = [one.block for one in self._rising.values() if one.owner is page_in]
        stays = np.isin(page_in.blocks, own)
        freed, page_in.blocks = page_in.blocks[~stays], page_in.blocks[stays]
        page_in.num_left = len(own)
        self._pool.free(freed[::-1])
        self._cancel()
        if not own:
            del self._held[page_in]
            self._tell_ended(page_in, self._looked_ns)

    # ---- what is there

    @property
    def num_rising(self) -> int:
        """Pages on their way."""
        return len(self._rising)

    def num_blocks_alone(self) -> int:
        """Blocks that nobody but page-ins has references to."""
        if not self._held:
            return 0
        blocks, counts = np.unique(np.concatenate(self.held_blocks()), return_counts=True)
        return int(np.count_nonzero(self._pool.ref_counts(blocks) == counts))

    def held_blocks(self) -> list[Int64s]:
        """Blocks that page-ins have references to, one vector for each."""
        return [page_in.blocks for page_in in self._held]

    def check_integrity(self) -> None:
        """Check index, tiers and page-ins against each other. O(blocks + pages).

        Raises:
            InvariantError: with what was expected and what was found.
        """
        self._tiers.check_integrity()
        ids = np.array(self._index.blocks(), np.int64)
        num_pages = int(np.count_nonzero(ids >= self._first_page))
        if num_pages != self._tiers.num_kept:
            raise InvariantError(f"the index knows {num_pages} pages, the tiers keep {self._tiers.num_kept}")
        if len(self._rising) != self._tiers.num_rising:
            raise InvariantError(
                f"{len(self._rising)} pages are waited for, {self._tiers.num_rising} are on their way"
            )

    # ---- how

    def _replace(self, was: Int64s, now: Int64s) -> None:
        """Let something else stand for the prefixes of registered blocks or pages."""
        self._carry(was, now)
        self._index.substitute(was, now)

    def _carry(self, was: Int64s, now: Int64s) -> None:
        """Let what is known of the content of blocks or pages be known of others."""
        if self._tokens is not None:
            self._tokens[now] = self._tokens[was]
        if self._keys is not None:
            self._keys.moved(was, now)

    def _forget_dropped(self) -> None:
        dropped = self._tiers.take_dropped()
        if len(dropped):
            unregister(self._pool, self._index, dropped, tiers=self._tiers)

    def _back_out(self, held: Int64s, pages: Int64s) -> None:
        """Drop references, and forget pages that were pinned."""
        self._pool.free(held[::-1])
        self._tiers.unpin(pages)
        known = np.array([page in self._index for page in pages.tolist()], np.bool_)
        if known.any():
            unregister(self._pool, self._index, pages[known], tiers=self._tiers)

    def _start(self, page_in: PageIn, pages: Int64s, blocks: Int64s, is_ahead: bool) -> None:
        for page, block in zip(pages.tolist(), blocks.tolist(), strict=True):
            self._rising[page] = _Rising(block, page_in, [])
        if not len(pages):
            return
        num_again = self._tiers.num_again(pages, self._pool.num_blocks)
        self._tiers.page_in(pages, blocks)
        if (emit := self._pool.events.emit) is not None:
            emit(PageInStarted(len(pages), page_in.num_from_file, num_again, is_ahead))

    def _arrive(self, paged_in: PagedIn) -> None:
        """Blocks that have come stand for their pages; pages that have not are forgotten."""
        known = np.array([page in self._index for page in paged_in.pages.tolist()], np.bool_)
        came = paged_in.arrived & known
        was, now = paged_in.pages[came], paged_in.blocks[came]
        if len(was):
            self._carry(was, now)
            stand_for(self._pool, self._index, was, now, self._tiers)
        if len(failed := paged_in.pages[known & ~paged_in.arrived]):
            unregister(self._pool, self._index, failed, tiers=self._tiers)

    def _cancel(self) -> None:
        """Leave in the file what nobody waits for any more, and what has not been read yet."""
        unwanted = [page for page, one in self._rising.items() if one.owner.was_given_up and not one.others]
        for page in self._tiers.cancel(np.array(unwanted, np.int64)).tolist():
            one = self._rising.pop(page)
            owner = one.owner
            owner.num_asked -= 1
            owner.num_left -= 1
            owner.blocks = owner.blocks[owner.blocks != one.block]
            self._pool.free([one.block])
            if not owner.num_left:
                del self._held[owner]
                self._tell_ended(owner, self._looked_ns)

    def _fail(self, page_in: PageIn, block: int) -> None:
        """A page did not come, so the prefix ends before it."""
        page_in.num_failed += 1
        position = int(np.flatnonzero(page_in.blocks == block)[0])
        page_in.num_usable = min(page_in.num_usable, position)

    def _shorten(self, page_in: PageIn) -> None:
        """Drop the references to what is behind a page that did not come: admission needs those blocks."""
        useless = page_in.blocks[page_in.num_usable :]
        if len(useless):
            page_in.blocks = page_in.blocks[: page_in.num_usable]
            self._pool.free(useless[::-1])

    def _let_go(self, page_in: PageIn) -> None:
        """Drop the references, last block first, so that tails go first."""
        del self._held[page_in]
        self._pool.free(page_in.blocks[::-1])

    def _tell_ended(self, page_in: PageIn, looked_ns: int) -> None:
        """Tell of a page-in that had not ended at the look before, which was at `looked_ns`."""
        if page_in.num_asked and (emit := self._pool.events.emit) is not None:
            now_ns, since_ns = self._tiers.now_ns(), page_in.since_ns
            unseen_ns = now_ns - max(since_ns, looked_ns)
            emit(
                PageInEnded(
                    page_in.num_asked, page_in.num_missing, now_ns - since_ns, page_in.expected_ns, unseen_ns
                )
            )
