"""Which waiting requests begin: in order, through the gates, as far as there are blocks."""

from typing import NamedTuple

from pagedkv.block_manager import BlockManager, PrefixHit
from pagedkv.config import SchedulerConfig
from pagedkv.errors import OutOfBlocks
from pagedkv.events import BatchLimited, RequestHeld, RequestPromoted, RequestStarted
from pagedkv.scheduler.gates import AdaptiveLimit, FixedLimit, LengthBuckets, MergeWindow
from pagedkv.scheduler.paging import Paging
from pagedkv.scheduler.running import Plan, Running
from pagedkv.scheduler.state import Held, RequestState, Status
from pagedkv.scheduler.step import Chunk
from pagedkv.scheduler.waiting import WaitingQueue

__all__ = ["Admission", "Limits"]

_MOST_LOOKED_AT = 256  # in a step
_MOST_AHEAD = 16  # waiting requests whose pages may be brought before their turn
_AWAITS = "its pages are on their way to the device"
_LOOKS_BETWEEN_COUNTS = 64  # of the blocks that one needs, while there are fewer than it needed


class Limits(NamedTuple):
    """What keeps requests from beginning.

    Attributes:
        num_sequences: that may run at once now.
        batch_average: moving average of those that ran; None where `num_sequences` does not follow it.
        num_watermark_blocks: that are kept free.
        num_promised_blocks: that prompts which are being computed will still take.
        opens_ns: until when new requests are held on purpose; None if they are not.
        num_looks: how often it was looked at who waits.
    """

    num_sequences: int
    batch_average: float | None
    num_watermark_blocks: int
    num_promised_blocks: int
    opens_ns: int | None
    num_looks: int


class Admission:
    """Lets waiting requests begin.

    One that needs more blocks than there are is overtaken by those behind it that do fit, `max_overtakes`
    times; then, or if it has lost its blocks, nobody behind it begins before it.

    Args:
        cache: the blocks.
        config: the settings.
        waiting: who waits.
        running: who runs.
        paging: what brings back the pages of those that wait.

    Attributes:
        explains: whether a `RequestHeld` event says why a request is not admitted.
    """

    def __init__(
        self,
        cache: BlockManager,
        config: SchedulerConfig,
        waiting: WaitingQueue,
        running: Running,
        paging: Paging,
    ) -> None:
        self._cache = cache
        self._config = config
        self._waiting = waiting
        self._running = running
        self._paging = paging
        self._window = MergeWindow(config.batch_merge_window_ms, config.max_batch_tokens)
        self._buckets = LengthBuckets(config.length_buckets)
        most = min(config.max_running, config.max_batch_tokens)  # so that all decode in every step
        self._limit = (
            AdaptiveLimit(most, config.batch_average_steps)
            if config.adaptive_batch_size
            else FixedLimit(most)
        )
        self._watermark = int(config.watermark_ratio * cache.config.num_blocks)
        self._looks = 0
        self._num_promised = 0  # blocks, to prompts that are being computed
        self.explains = False

    @property
    def limits(self) -> Limits:
        """What requests that wait come up against, as of the last step."""
        return Limits(
            num_sequences=self._limit.num_sequences,
            batch_average=self._limit.average,
            num_watermark_blocks=self._watermark,
            num_promised_blocks=self._num_promised,
            opens_ns=self.opens_ns,
            num_looks=self._looks,
        )

    @property
    def opens_ns(self) -> int | None:
        """Until when new requests are held on purpose, as of the last step; None if they are not."""
        return self._window.opens_ns if self._waiting else None

    def admit(self, plan: Plan) -> None:
        """Let requests begin in this step, and bring pages for those whose turn comes later."""
        if not self._waiting:
            return
        self._looks += 1
        self._admit(plan)
        if self._paging.is_on:
            self._paging.ask_ahead(self._waiting.first(_MOST_AHEAD), self._room(self._watermark))

    def _admit(self, plan: Plan) -> None:
        self._promote(plan.now_ns)
        self._num_promised = self._running.num_promised_blocks()
        num_running = self._running.num_sequences
        self._window.begin_step(self._waiting, self._limit.num_sequences - num_running, plan.now_ns)
        self._buckets.begin_step()
        overtaken: list[RequestState] = []
        for request in self._waiting.first(_MOST_LOOKED_AT):
            if not plan.num_tokens:
                self._explain(request, "the step has all the tokens that it may have")
                return
            reason = self._gates(request, num_running) or self._begin(plan, request)
            if reason is None:
                num_running += request.width
                for each in overtaken:
                    each.num_overtakes += 1
            elif not self._is_in_line(request):
                self._explain(request, reason)
            else:
                overtaken.append(request)
                if self._is_next(request) or len(overtaken) > self._config.max_overtakes:
                    self._explain(request, f"{reason}; nobody behind it begins before it")
                    return
                self._explain(request, reason)
            if any(self._is_next(each) for each in overtaken):
                return

    def end_step(self, num_preempted: int) -> None:
        """A step was scheduled that runs something, and for which so many requests were preempted."""
        before = self._limit.num_sequences
        self._limit.end_step(self._running.num_sequences, num_preempted)
        if self._limit.num_sequences < before and (emit := self._cache.events.emit) is not None:
            emit(BatchLimited(before, self._limit.num_sequences))

    # ---- how

    def _gates(self, request: RequestState, num_running: int) -> str | None:
        """Why the request is held, besides blocks."""
        if num_running and self._waits_for_an_end(request):
            return "it was preempted, and no request has ended since"
        return (
            self._window.reason(request)
            or self._limit.reason(request, num_running)
            or self._buckets.reason(request)
        )

    def _is_in_line(self, request: RequestState) -> bool:
        """Whether a request that was held is overtaken by those that begin behind it."""
        if self._paging.is_on and self._paging.is_awaited_by(request):
            return False  # it does not take long, and does not depend on who runs
        return self._window.reason(request) is None and self._buckets.reason(request) is None

    def _is_next(self, request: RequestState) -> bool:
        """Whether nobody behind this one, which is held, may begin."""
        if self._waits_for_an_end(request) or request.is_promoted:
            return True
        return request.num_overtakes >= self._config.max_overtakes

    def _waits_for_an_end(self, request: RequestState) -> bool:
        """Whether the request was preempted, and none has ended since."""
        return request.num_ended_before == self._running.num_ended

    def _begin(self, plan: Plan, request: RequestState) -> str | None:
        """Admit the first piece of a request, or say why not."""
        paging, is_alone = self._paging, not len(self._running)
        if paging.is_on and paging.awaits(request, plan.now_ns):
            return _AWAITS
        num_kept = 0 if is_alone else self._watermark
        room = self._cache.pool.num_free - self._num_promised - num_kept
        most = room + paging.num_reclaimable(request) if paging.is_on else room
        held = None if is_alone else request.held
        if held is not None and most < held.num_blocks and self._looks < held.until:
            return f"{held.num_blocks} blocks needed, {room} to be had"
        leader = request.sequences[0]
        is_group = len(request.sequences) > 1
        outputs = leader.output_ids[:0] if is_group else leader.output_ids
        prompt, length = request.request.prompt, request.request.prompt.num_tokens + len(outputs)
        hit = prompt.hit(self._cache, leader.seq_id, outputs)
        needed = self._num_needed(request, hit)
        helps = paging.is_on and (needed <= most or is_alone)
        while needed > room and helps and paging.reclaim(request):
            room = self._room(num_kept)
            hit = prompt.hit(self._cache, leader.seq_id, outputs)
            needed = self._num_needed(request, hit)
        if needed > room:
            request.held = Held(needed, self._looks + _LOOKS_BETWEEN_COUNTS)
            return f"{needed} blocks needed, {room} to be had ({num_kept} are kept by the watermark)"
        if paging.is_on and paging.ask(request, plan.now_ns):
            return _AWAITS
        num_tokens = min(length - hit.num_tokens, plan.num_tokens, self._config.max_chunk_tokens or length)
        if num_tokens < length - hit.num_tokens and not self._config.chunked_prefill:
            return f"{length - hit.num_tokens} tokens to compute at once, {plan.num_tokens} left in this step"
        stop = hit.num_tokens + num_tokens
        try:
            placed = prompt.admit(self._cache, leader.seq_id, outputs, stop)
        except OutOfBlocks as lack:
            return str(lack)
        leader.is_placed, leader.num_computed = True, placed.num_cached_tokens
        samples, row = stop == length and not is_group, self._cache.row(leader.seq_id)
        plan.chunks.append(Chunk(leader, leader.num_computed, stop, samples, row))
        plan.num_tokens -= stop - leader.num_computed
        self._started(request, length, placed.num_cached_tokens, plan.now_ns)
        self._num_promised += self._running.num_blocks_to_come(request)
        return None

    def _num_needed(self, request: RequestState, hit: PrefixHit) -> int:
        """Free blocks that a request takes until all its tokens are computed."""
        num_reused = hit.num_tokens // self._cache.config.block_size
        return self._running.num_blocks_to_come(request) - num_reused + hit.num_idle_blocks

    def _room(self, num_kept: int) -> int:
        """Blocks that a request may take, besides those that are promised or kept."""
        return self._cache.pool.num_free - self._num_promised - num_kept

    def _started(self, request: RequestState, num_tokens: int, num_cached: int, now_ns: int) -> None:
        is_resumed = request.first_scheduled_ns is not None
        request.sequences[0].begin()
        self._waiting.remove(request)
        if self._paging.is_on:
            self._paging.begins(request)
        self._buckets.admitted(request)
        self._running.prefilling[request] = None
        request.status, request.held, request.num_ended_before = Status.PREFILLING, None, -1
        request.why_held = None
        if not is_resumed:
            request.first_scheduled_ns, request.num_cached_tokens = now_ns, num_cached
        if (emit := self._cache.events.emit) is not None:
            wait_ns = now_ns - (request.queued_ns if is_resumed else request.arrival_ns)
            emit(RequestStarted(request.request_id, num_tokens, num_cached, wait_ns, is_resumed))

    def _promote(self, now_ns: int) -> None:
        for request in self._waiting.promote(now_ns):
            if (emit := self._cache.events.emit) is not None:
                wait_ns = now_ns - request.queued_ns
                emit(RequestPromoted(request.request_id, wait_ns, request.num_preemptions))

    def _explain(self, request: RequestState, reason: str) -> None:
        request.why_held, request.looked_at = reason, self._looks
        if self.explains and (emit := self._cache.events.emit) is not None:
            emit(RequestHeld(request.request_id, reason))
