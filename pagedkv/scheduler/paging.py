"""Pages of waiting requests: which are brought to the device, and when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pagedkv.block_manager import BlockManager, PagedPrefix, PageIn
from pagedkv.clock import Clock
from pagedkv.errors import OutOfBlocks
from pagedkv.events import RequestAwaitedPages
from pagedkv.offload.costs import PrefillSpeed
from pagedkv.scheduler.order import Rank
from pagedkv.scheduler.state import RequestState

__all__ = ["Paging"]

_NS_PER_MS = 1_000_000
_STEPS_BETWEEN_LOOKS = 4  # at the pages of one that had none worth bringing, or no room for them
_NEVER = -_STEPS_BETWEEN_LOOKS


@dataclass(slots=True)
class _Asked:
    """Pages that were asked for, for one request.

    Attributes:
        page_in: what the cache knows of those that were asked for last.
        is_all: whether there were no more.
        due_ns: since when it is the request's turn; None before.
        ended_ns: when the pages were there; None before.
        num_before: pages that were there in time before those were asked for.
    """

    page_in: PageIn
    is_all: bool
    due_ns: int | None
    ended_ns: int | None = None
    num_before: int = 0

    @property
    def num_pages(self) -> int:
        """All pages that were asked for."""
        return self.num_before + self.page_in.num_pages


class Paging:
    """Brings pages back for those that wait, so that they begin with their prefix on the device.

    A request whose turn has come is held until its pages are there, if that is quicker than to compute their
    tokens again by what was measured, and not for longer than a time limit. Pages of those behind it are
    asked for before their turn, as far as there is room that nobody needs.

    Args:
        cache: the blocks, and the pages below them, if there are any.
        clock: what tells the time.
        rank: who goes first.

    Attributes:
        is_on: whether there are pages; without them, nothing here is to be called.
        speed: how quickly prompts are computed.
        is_barred: whether a copy of this step is still to read or write a block that is free: pages would
            come into it too early, so none are asked for.
    """

    def __init__(
        self,
        cache: BlockManager,
        clock: Clock,
        rank: Callable[[RequestState], Rank],
    ) -> None:
        config = None if cache.tiers is None else cache.tiers.config
        self.speed = PrefillSpeed()
        self.is_barred = False
        self.is_on = config is not None
        self._cache = cache
        self._clock = clock
        self._rank = rank
        self._num_ahead = 0 if config is None else config.prefetch_blocks
        self._timeout_ns = 0 if config is None else round(config.page_in_timeout_ms * _NS_PER_MS)
        self._asked: dict[RequestState, _Asked] = {}
        self._declined: dict[RequestState, int] = {}  # when the pages of one were not worth it
        self._postponed: dict[RequestState, int] = {}  # when there was no room for those of one
        self._looks = 0

    @property
    def any_in_flight(self) -> bool:
        """Whether pages are on their way; also those that were given up keep blocks until they have come."""
        return self._cache.tiers is not None and self._cache.tiers.num_rising > 0

    def is_awaited_by(self, request: RequestState) -> bool:
        """Whether pages are on their way to a request whose turn has come."""
        asked = self._asked.get(request)
        return asked is not None and asked.ended_ns is None and asked.due_ns is not None

    def poll(self) -> None:
        """See which pages have come."""
        self._looks += 1
        ended = self._cache.poll_page_ins()
        if ended:
            now_ns = self._clock.now_ns()
            done = {id(page_in) for page_in in ended}
            for request, asked in self._asked.items():
                if id(asked.page_in) in done:
                    asked.ended_ns = now_ns
                    request.held = None  # it needs fewer blocks now

    def awaits(self, request: RequestState, now_ns: int) -> bool:
        """Whether a request whose turn has come is to wait for pages that are on their way to it."""
        asked = self._asked.get(request)
        if asked is None or asked.ended_ns is not None:
            return False
        if asked.due_ns is None:
            asked.due_ns = now_ns
        if now_ns - asked.due_ns < self._timeout_ns:
            return True
        self._give_up(request, asked, now_ns)
        return False

    def ask(self, request: RequestState, now_ns: int) -> bool:
        """Ask for the pages of a request whose turn has come; returns whether it is to wait for them."""
        if self._has_all(request) or self._is_recent(self._declined.get(request, _NEVER)):
            return False
        prefix = self._worthwhile(request, None)
        if self.is_barred and prefix is not None:
            return True
        return self._begin(request, prefix, None, now_ns)

    def begins(self, request: RequestState) -> None:
        """A request has blocks: those of its pages are in its table now."""
        self._forget(request)
        if (asked := self._asked.pop(request, None)) is None:
            return
        self._cache.end_page_in(asked.page_in)
        late_ns = 0
        if asked.due_ns is not None and asked.ended_ns is not None:
            late_ns = max(0, asked.ended_ns - asked.due_ns)
        self._tell(request, asked, late_ns, gave_up=False)

    def leaves(self, request: RequestState) -> None:
        """A request waits no longer, and has not begun."""
        self._forget(request)
        if (asked := self._asked.pop(request, None)) is not None:
            self._cache.end_page_in(asked.page_in)

    def ask_ahead(self, waiting: Iterable[RequestState], room: int) -> None:
        """Ask for the pages of requests whose turn has not come.

        Args:
            waiting: the first of them, in order.
            room: blocks that nobody needs.
        """
        if not self._num_ahead or self.is_barred:
            return
        left = self._num_ahead - sum(asked.num_pages for asked in self._asked.values())
        for request in waiting:
            if left <= 0 or room <= 0:
                return
            looks = max(self._declined.get(request, _NEVER), self._postponed.get(request, _NEVER))
            if self._has_all(request) or self._is_recent(looks):
                continue
            prefix = self._worthwhile(request, left)
            if prefix is not None and prefix.num_blocks_needed > room:
                self._postponed[request] = self._looks
            elif self._begin(request, prefix, left, None) and prefix is not None:
                left -= prefix.num_paged
                room -= prefix.num_blocks_needed

    def num_reclaimable(self, before: RequestState) -> int:
        """Blocks that `reclaim` could free, at most, besides those of this request."""
        ready = [
            asked
            for each, asked in self._asked.items()
            if each is not before and self._is_behind(each, before)
        ]
        return sum(len(asked.page_in.blocks) for asked in ready if asked.ended_ns is not None)

    def reclaim(self, before: RequestState | None) -> bool:
        """Let go of blocks that hold pages of the last in line, so that they are free.

        Args:
            before: only of those behind this one, and at last, if nothing is on its way whose blocks could be
                had instead, its own, which do not help it if they are no hits; None for anybody's.

        Returns:
            Whether there were any.
        """
        ready = [request for request, asked in self._asked.items() if asked.ended_ns is not None]
        if before is not None:
            in_flight = self.any_in_flight
            ready = [
                request
                for request in ready
                if self._is_behind(request, before) and (request is not before or not in_flight)
            ]
        if not ready:
            return False
        last = max(ready, key=self._rank)
        self._cache.end_page_in(self._asked.pop(last).page_in)
        self._postponed[last] = self._looks
        return True

    # ---- how

    def _is_behind(self, request: RequestState, other: RequestState) -> bool:
        return self._rank(request) >= self._rank(other)

    def _is_recent(self, looks: int) -> bool:
        return self._looks - looks < _STEPS_BETWEEN_LOOKS

    def _forget(self, request: RequestState) -> None:
        self._declined.pop(request, None)
        self._postponed.pop(request, None)

    def _has_all(self, request: RequestState) -> bool:
        """Whether there is nothing more to ask for, or not before what was asked for is there."""
        asked = self._asked.get(request)
        return asked is not None and (asked.is_all or asked.ended_ns is None)

    def _worthwhile(self, request: RequestState, max_pages: int | None) -> PagedPrefix | None:
        """What of a request's prefix is worth bringing to the device, at most so many pages."""
        sequence = request.sequences[0]
        outputs = sequence.output_ids[:0] if len(request.sequences) > 1 else sequence.output_ids
        prefix = request.request.prompt.paged(self._cache, sequence.seq_id, outputs, max_pages)
        if not prefix.num_paged:
            return None
        recompute_ns = self.speed.recompute_ns(prefix.num_tokens - prefix.num_cached_tokens)
        tiers = self._cache.tiers
        if tiers is None or (recompute_ns is not None and tiers.page_in_ns(prefix.pages) > recompute_ns):
            return None
        return prefix

    def _begin(
        self, request: RequestState, prefix: PagedPrefix | None, max_pages: int | None, due_ns: int | None
    ) -> bool:
        """Ask for the pages of a prefix, behind those that have come already."""
        before = self._asked.get(request)
        if prefix is not None:
            try:
                page_in = self._cache.begin_page_in(prefix, is_ahead=due_ns is None)
            except OutOfBlocks:
                prefix = None
        if prefix is None:
            self._declined[request] = self._looks
            if before is not None:
                before.is_all = True
            return False
        is_all = max_pages is None or len(prefix.pages) < max_pages
        asked = self._asked[request] = _Asked(page_in, is_all, due_ns)
        if before is not None:
            asked.num_before = before.num_pages
            self._cache.end_page_in(before.page_in)
        return True

    def _give_up(self, request: RequestState, asked: _Asked, now_ns: int) -> None:
        del self._asked[request]
        self._declined[request] = self._looks
        self._cache.end_page_in(asked.page_in)
        self._tell(request, asked, now_ns - (asked.due_ns or now_ns), gave_up=True)

    def _tell(self, request: RequestState, asked: _Asked, wait_ns: int, *, gave_up: bool) -> None:
        if (emit := self._cache.events.emit) is not None:
            if asked.num_before:
                emit(RequestAwaitedPages(request.request_id, asked.num_before, 0))
            emit(RequestAwaitedPages(request.request_id, asked.page_in.num_pages, wait_ns, gave_up))
