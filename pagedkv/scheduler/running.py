"""Requests that have blocks: what they compute next, and who gives up blocks when there are too few."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from pagedkv.block_manager import BlockManager, Placement
from pagedkv.config import Policy, SchedulerConfig
from pagedkv.errors import OutOfBlocks
from pagedkv.events import RequestHeld, RequestPreempted, RequestPromoted
from pagedkv.request import RequestId
from pagedkv.scheduler.decode_batch import DecodeBatch, Members
from pagedkv.scheduler.order import rank_by
from pagedkv.scheduler.paging import Paging
from pagedkv.scheduler.state import RequestState, SequenceState, Status
from pagedkv.scheduler.step import Chunk, Decodes
from pagedkv.scheduler.token_table import TokenTable
from pagedkv.scheduler.waiting import WaitingQueue

__all__ = ["Plan", "Running"]

_Answer = TypeVar("_Answer")
_MOST_PREEMPTIONS = 3

_WHY: dict[Policy, str] = {
    "fcfs": "it came last",
    "lifo": "it came first",
    "priority": "it is the least urgent, and came last of those",
}


@dataclass(slots=True)
class Plan:
    """A step while it is made.

    Attributes:
        now_ns: when.
        num_tokens: tokens that it may still get.
        decodes: what decodes.
        members: the same, with their rows in the table of tokens.
        chunks: pieces of prompts.
        copies: blocks to copy first, in order.
    """

    now_ns: int
    num_tokens: int
    decodes: Decodes = field(default_factory=Decodes)
    members: Members | None = None
    chunks: list[Chunk] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)


class Running:
    """Requests that have blocks, decoding ones and those that still have a prompt to compute.

    Args:
        cache: the blocks.
        config: the settings.
        table: the generated tokens.
        waiting: where those go that lose their blocks.
        paging: what brings back the pages of those that wait.

    Attributes:
        batch: those that decode.
        prefilling: those with a prompt to compute, or with tokens to compute again.
        preempted: those that lost their blocks since this was last emptied.
        num_pressed: how many lost them because there were too few, so far.
        explains: whether a `RequestHeld` event says why a prompt is not gone on with.
        num_ended: requests that ended so far, in whatever way.
        rank: who goes first.
    """

    def __init__(
        self,
        cache: BlockManager,
        config: SchedulerConfig,
        table: TokenTable,
        waiting: WaitingQueue,
        paging: Paging,
    ) -> None:
        self._cache = cache
        self._config = config
        self._table = table
        self._waiting = waiting
        self._paging = paging
        self.rank = rank_by(config.policy)
        self.batch = DecodeBatch()
        self.prefilling: dict[RequestState, None] = {}
        self.preempted: list[RequestId] = []
        self.num_pressed = 0
        self.num_ended = 0
        self.explains = False

    def __iter__(self) -> Iterator[RequestState]:
        """All of them."""
        yield from self.batch
        yield from self.prefilling

    def __len__(self) -> int:
        """How many requests they are."""
        return self.batch.num_requests + len(self.prefilling)

    @property
    def num_sequences(self) -> int:
        """Sequences that they run, or will run when their prompts are computed."""
        return len(self.batch) + sum(request.width for request in self.prefilling)

    # ---- what they compute

    def decode(self, plan: Plan) -> None:
        """Let all sequences decode that have a token to compute; the last requests give way to the first."""
        while (members := self.batch.members()).seq_ids:
            tokens = self._table.last_tokens(members.rows)
            try:
                placed = self._cache.append_batch(members.seq_ids, tokens)
            except OutOfBlocks as lack:
                if not (self._paging.is_on and self._paging.reclaim(None)):
                    self._preempt_last(None, lack, plan.now_ns)
                continue
            rows = members.rows
            plan.decodes = Decodes(
                sequences=members.sequences,
                seq_ids=members.seq_ids,
                token_ids=tokens,
                positions=self._table.num_prompt[rows] + self._table.num_outputs[rows] - 1,
                slot_mapping=placed.slot_mapping,
                rows=placed.rows,
                changes=members.changes,
            )
            plan.members = members
            plan.copies.extend(placed.copies)
            plan.num_tokens -= len(members)
            return

    def prefill(self, plan: Plan) -> None:
        """Compute the next piece of each prompt, the first ones first."""
        for request in sorted(self.prefilling, key=self.rank):
            for sequence, target, samples in _to_compute(request):
                if request in self.prefilling and plan.num_tokens:
                    self._compute(plan, request, sequence, target, samples)

    def regroup(self, plan: Plan) -> None:
        """Share a prompt that was computed again among its sequences; whoever has caught up decodes.

        A group that lost its blocks computes the prompt once, forks, and then each sequence computes its
        tokens but the last, so that all of them sample in the same step.
        """
        for request in [each for each in self.prefilling if len(each.sequences) > 1]:
            leader, *others = request.sequences
            if leader.num_computed < request.request.prompt.num_tokens:
                continue
            placed = [self._share(plan, request, leader, each) for each in others]
            if all(placed) and not any(_to_compute(request)):
                self.to_decoding(request)

    def to_decoding(self, request: RequestState) -> None:
        """Let a request decode from now on."""
        self.prefilling.pop(request, None)
        request.status = Status.DECODING
        self.batch.join(request)

    def catch_up(self, request: RequestState) -> None:
        """Let a request that decodes compute what its new sequences do not share; then all go on together."""
        for sequence in request.sequences:
            sequence.num_computed = self._cache.num_tokens(sequence.seq_id)
        if any(_to_compute(request)):
            self.batch.leave(request)
            self.prefilling[request] = None
            request.status = Status.PREFILLING

    def fork(
        self, copies: list[tuple[int, int]], parent: SequenceState, child: SequenceState, now_ns: int
    ) -> bool:
        """Give a new sequence the blocks of the one that it branches from.

        Returns:
            Whether that succeeded; if not, the request has lost its blocks, and has its tokens.
        """
        request = parent.request

        def ask() -> Placement:
            return self._cache.fork(parent.seq_id, child.seq_id)

        placed = self._with_room(request, ask, now_ns)
        if placed is None:
            return False
        copies.extend(placed.copies)
        child.is_placed, child.num_computed = True, self._cache.num_tokens(child.seq_id)
        return True

    def num_promised_blocks(self) -> int:
        """Blocks that prompts being computed are going to take."""
        return sum(self.num_blocks_to_come(request) for request in self.prefilling)

    # ---- who gives up blocks

    def withdraw(
        self,
        request: RequestState,
        needed_by: RequestId | None,
        reason: str,
        now_ns: int,
        *,
        in_flight: bool = False,
    ) -> None:
        """Take a request's blocks away; it waits again, with its tokens.

        Args:
            request: the request.
            needed_by: who needs them.
            reason: what for.
            now_ns: when.
            in_flight: whether the last token of those that decode is placed, and not computed.
        """
        pool, num_before = self._cache.pool, self._cache.pool.num_free
        num_lost = self._num_computed(request, in_flight)
        self.remove(request)
        for sequence in request.sequences:
            if self._paging.is_on and sequence.is_placed and not in_flight:
                num_tokens = self._cache.num_tokens(sequence.seq_id)
                request.request.prompt.name_outputs(self._cache, sequence.seq_id, num_tokens)
            self.release(sequence)
        request.num_preemptions += 1
        request.num_lost_tokens += num_lost
        request.held = None
        self._waiting.push(request, now_ns)
        self.preempted.append(request.request_id)
        if (emit := self._cache.events.emit) is not None:
            emit(RequestPreempted(request.request_id, needed_by, reason, num_before, pool.num_free, num_lost))

    def remove(self, request: RequestState) -> None:
        """Take a request out, whatever it is doing; its sequences keep their blocks."""
        self.prefilling.pop(request, None)
        self.batch.leave(request)

    def release(self, sequence: SequenceState) -> None:
        """Give a sequence's blocks back, if it has any."""
        if sequence.is_placed:
            self._cache.release(sequence.seq_id)
            sequence.is_placed, sequence.num_computed = False, 0

    # ---- how

    def _chunk(self, sequence: SequenceState, target: int) -> int:
        return min(target - sequence.num_computed, self._config.max_chunk_tokens or target)

    def _compute(
        self, plan: Plan, request: RequestState, sequence: SequenceState, target: int, samples: bool
    ) -> None:
        """Plan the next piece of a sequence; nothing if there are no blocks for it now."""
        start = sequence.num_computed
        stop = start + min(self._chunk(sequence, target), plan.num_tokens)
        prompt, outputs = request.request.prompt, sequence.output_ids

        def ask() -> Placement:
            return prompt.append(self._cache, sequence.seq_id, outputs, start, stop)

        placed = self._beside_scheduled(request, ask, plan.now_ns)
        if placed is None:
            if self.explains and (emit := self._cache.events.emit) is not None:
                emit(RequestHeld(request.request_id, "the blocks for its next piece are not free"))
        else:
            plan.copies.extend(placed.copies)
            row = self._cache.row(sequence.seq_id)
            plan.chunks.append(Chunk(sequence, start, stop, samples and stop == target, row))
            plan.num_tokens -= stop - start

    def _beside_scheduled(
        self, request: RequestState, ask: Callable[[], _Answer], now_ns: int
    ) -> _Answer | None:
        """What `ask` answers, or None if it needs blocks of requests that are in this step already.

        Prompts that come later in this step give up their blocks for it.
        """
        while True:
            try:
                return ask()
            except OutOfBlocks as lack:
                if self._paging.is_on and self._paging.reclaim(None):
                    continue
                last = max(self.prefilling, key=self.rank)
                if last is request:
                    return None
                self._preempt(last, request, lack, now_ns)

    def _with_room(self, request: RequestState, ask: Callable[[], _Answer], now_ns: int) -> _Answer | None:
        """What `ask` answers, after the last ones in rank gave up blocks; None if `request` itself had to."""
        while True:
            try:
                return ask()
            except OutOfBlocks as lack:
                if self._paging.is_on and self._paging.reclaim(None):
                    continue
                if self._preempt_last(request, lack, now_ns) is request:
                    return None

    def _preempt_last(self, needed_by: RequestState | None, lack: OutOfBlocks, now_ns: int) -> RequestState:
        last = max(self, key=self.rank)
        self._preempt(last, needed_by, lack, now_ns)
        return last

    def _preempt(
        self, request: RequestState, needed_by: RequestState | None, lack: OutOfBlocks, now_ns: int
    ) -> None:
        """Take the blocks of a request, which then waits until another one ends."""
        reason = (
            f"{lack.needed} blocks needed, {lack.free + lack.evictable} free; "
            f"{self._config.policy}: {_WHY[self._config.policy]}"
        )
        request.num_ended_before = self.num_ended
        self.num_pressed += 1
        self._promote_if_tossed(request)
        needed_by_id = None if needed_by is None else needed_by.request_id
        self.withdraw(request, needed_by_id, reason, now_ns)

    def _share(self, plan: Plan, request: RequestState, leader: SequenceState, other: SequenceState) -> bool:
        """Fork a sequence off the leader, unless it is done; whether it has its blocks."""
        if request not in self.prefilling:
            return False
        return other.is_placed or self.fork(plan.copies, leader, other, plan.now_ns)

    def num_blocks_to_come(self, request: RequestState) -> int:
        """Blocks that a request takes, besides those that it has, until its sequences have all tokens."""
        size = self._cache.config.block_size
        if request.num_sequences_begun == 1:
            leader = request.sequences[0]
            num_placed = self._cache.num_tokens(leader.seq_id) if leader.is_placed else 0
            return _first_blocks(request, size) - -(-num_placed // size)
        shared = request.request.prompt.num_tokens // size if len(request.sequences) > 1 else 0
        num_shared, num_own = 0, 0
        for sequence in request.sequences:
            num_own += -(-sequence.num_tokens // size) - shared
            if sequence.is_placed:
                num_placed = -(-self._cache.num_tokens(sequence.seq_id) // size)
                num_shared = max(num_shared, min(shared, num_placed))
                num_own -= max(0, num_placed - shared)
        return shared - num_shared + max(0, num_own)

    def _promote_if_tossed(self, request: RequestState) -> None:
        """Let a request go first from now on that loses its blocks again and again."""
        if self._config.max_wait_ms is None or request.is_promoted:
            return
        if request.num_preemptions + 1 >= _MOST_PREEMPTIONS:
            request.is_promoted = True  # not before it is out of everything that is sorted by rank
            if (emit := self._cache.events.emit) is not None:
                emit(RequestPromoted(request.request_id, 0, request.num_preemptions + 1))

    def _num_computed(self, request: RequestState, in_flight: bool) -> int:
        """Tokens whose KV a request has, its prompt counted once."""
        shared = request.request.prompt.num_tokens
        placed = [each for each in request.sequences if each.is_placed]
        if request.status is Status.DECODING:
            lengths = [self._cache.num_tokens(each.seq_id) - in_flight for each in placed]
        else:
            lengths = [each.num_computed for each in placed]
        return sum(max(0, length - shared) for length in lengths) + min(shared, max(lengths, default=0))


def _first_blocks(request: RequestState, block_size: int) -> int:
    """Blocks of a request that has not branched: of its tokens, and of what each sequence writes first."""
    leader = request.sequences[0]
    needed = -(-leader.num_tokens // block_size) + request.width - 1
    return min(needed, max(request.request.num_blocks(block_size), -(-leader.num_tokens // block_size)))


def _to_compute(request: RequestState) -> Iterator[tuple[SequenceState, int, bool]]:
    """Of each sequence that has tokens to compute: up to which, and whether the next one is sampled there."""
    if len(request.sequences) == 1:
        sequence = request.sequences[0]
        yield sequence, sequence.num_tokens, True
        return
    shared = request.request.prompt.num_tokens
    for sequence in request.sequences:
        target = shared if sequence.num_computed < shared else sequence.num_tokens - 1
        if sequence.is_placed and sequence.num_computed < target:
            yield sequence, target, False
