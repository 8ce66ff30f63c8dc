"""The scheduler: which requests run in the next step, and what becomes of them."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import get_args

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.block_manager import BlockManager
from pagedkv.block_manager.token_ids import as_token_ids
from pagedkv.clock import Clock
from pagedkv.config import OffloadConfig, SchedulerConfig
from pagedkv.errors import ConfigError, DuplicateRequest, InvalidRequest, RequestRefused, UnknownRequest
from pagedkv.events import EventStream, RequestFinished, RequestQueued, StepCommitted, StepScheduled
from pagedkv.logs import attach_scheduler_if_asked
from pagedkv.request import Request, RequestId
from pagedkv.scheduler.admission import Admission, Limits
from pagedkv.scheduler.gates import BatchPeriod
from pagedkv.scheduler.paging import Paging
from pagedkv.scheduler.running import Plan, Running
from pagedkv.scheduler.state import FinishReason, RequestState, SequenceState, Status
from pagedkv.scheduler.step import ScheduledStep, StepResult
from pagedkv.scheduler.token_table import TokenTable
from pagedkv.scheduler.waiting import WaitingQueue

__all__ = ["Scheduler"]

_NS_PER_MS = 1_000_000
_NO_TIMES: Int64s = np.empty(0, np.int64)


class Scheduler:
    """Continuous batching with chunked prefill, forks and preemption, over the blocks of one cache.

    A step is `schedule`, then the work, then `commit`. Decoding sequences come first in a step, then prompts
    that are being computed, then new ones, each in the order of the policy. When blocks run out, the last one
    in that order gives up its own, keeps its tokens, and waits until another request has ended.

    Args:
        cache: the blocks; nobody else may change it.
        config: the settings.
        clock: what tells the time.

    Attributes:
        cache: the cache.
        config: the settings.
        clock: the clock.
    """

    def __init__(self, cache: BlockManager, config: SchedulerConfig, clock: Clock) -> None:
        self.cache = cache
        self.config = config
        self.clock = clock
        self._table = TokenTable()
        max_wait_ns = None if config.max_wait_ms is None else round(config.max_wait_ms * _NS_PER_MS)
        self._requests: dict[RequestId, RequestState] = {}
        self._sequences: dict[int, SequenceState] = {}
        self._waiting = WaitingQueue(lambda request: self._running.rank(request), max_wait_ns)
        self._paging = Paging(cache, clock, lambda request: self._running.rank(request))
        self._running = Running(cache, config, self._table, self._waiting, self._paging)
        self._admission = Admission(cache, config, self._waiting, self._running, self._paging)
        self._period = BatchPeriod(config.batch_period_ms) if config.batch_period_ms else None
        self._in_flight: tuple[ScheduledStep, Plan] | None = None
        self._copies: list[tuple[int, int]] = []  # of forks since the last step
        self._num_added = 0
        self._num_sequences = 0
        self._any_aborted = False  # since the step in flight was scheduled
        self.explains = attach_scheduler_if_asked(cache.events, config.batch_average_steps)

    # ---- what there is

    @property
    def events(self) -> EventStream:
        """The stream of the cache, which the scheduler tells what it does, too."""
        return self.cache.events

    @property
    def offload(self) -> OffloadConfig | None:
        """The settings of the tiers below the cache's device; None if there are none."""
        return None if self.cache.tiers is None else self.cache.tiers.config

    @property
    def requests(self) -> Mapping[RequestId, RequestState]:
        """The live requests by id, in the order in which they came. Read only."""
        return MappingProxyType(self._requests)

    @property
    def num_waiting(self) -> int:
        """Requests without blocks."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests with blocks."""
        return len(self._running)

    def waiting(self, count: int) -> list[RequestState]:
        """The first requests that wait, in the order of their turns; at most so many."""
        return self._waiting.first(count)

    @property
    def limits(self) -> Limits:
        """What keeps requests from beginning, besides too few blocks."""
        return self._admission.limits

    @property
    def in_flight(self) -> ScheduledStep | None:
        """The step that was scheduled last, until it is committed or has failed."""
        return None if self._in_flight is None else self._in_flight[0]

    @property
    def explains(self) -> bool:
        """Whether `RequestHeld` events say why a request is not admitted."""
        return self._admission.explains

    @explains.setter
    def explains(self, on: bool) -> None:
        self._admission.explains = self._running.explains = on

    # ---- requests come and go

    def add(self, request: Request) -> RequestState:
        """Let a request wait for its turn.

        Raises:
            DuplicateRequest: its id is live.
            RequestRefused: it can never run: it is larger than the pool or than a step may be.
            ConfigError: its prompt is of tokens, and the cache knows prompts by ids, or the other way round.
        """
        if request.request_id in self._requests:
            raise DuplicateRequest(f"request {request.request_id!r} is live already; choose another id")
        if not request.prompt.suits(self.cache.config):
            raise ConfigError(
                f"request {request.request_id!r} has a {type(request.prompt).__name__}, and the cache has "
                f"prefix_keys={self.cache.config.prefix_keys!r}: a TokenPrompt goes with "
                "'tokens', a KeyPrompt with 'ids'"
            )
        self._require_possible(request)
        now_ns = self.clock.now_ns()
        arrival_ns = now_ns if request.arrival_ns is None else request.arrival_ns
        state = RequestState(request, self._num_added, arrival_ns)
        self._num_added += 1
        state.sequences.append(self._begun(SequenceState(self._next_seq_id(), state, 0, self._table)))
        self._requests[request.request_id] = state
        self._waiting.push(state, min(now_ns, arrival_ns))
        if (emit := self.events.emit) is not None:
            emit(RequestQueued(request.request_id, request.prompt.num_tokens, len(self._waiting)))
        return state

    def abort(self, request_id: RequestId) -> RequestState:
        """End a request, at any time.

        What it holds is free at once, or when the step that reads it is committed.

        Raises:
            UnknownRequest: it is not live.
        """
        try:
            request = self._requests[request_id]
        except (KeyError, TypeError):
            raise UnknownRequest(
                f"request {request_id!r:.40} is not live ({len(self._requests)} are): "
                "it has ended, or was never added"
            ) from None
        if request.status is Status.WAITING:
            self._waiting.remove(request)
            self._paging.leaves(request)
        self._any_aborted = True
        for sequence in list(request.sequences):
            self._end(sequence, "abort")
        self._finish(request, self.clock.now_ns())
        return request

    # ---- steps

    def schedule(self) -> ScheduledStep:
        """Choose what the next step computes, and give it its blocks.

        Raises:
            InvalidRequest: the last step is neither committed nor failed.
            Exception: a fault; all running requests wait again then, as if a step had failed.
        """
        if self._in_flight is not None:
            raise InvalidRequest(f"step {self._in_flight[0].number} is in flight: commit it, or fail it")
        if self._period is not None and self._requests:
            due_ns = self._period.due_ns(self.clock.now_ns())
            if due_ns is not None:
                return ScheduledStep(wake_ns=due_ns)
        if self._paging.is_on:
            self._paging.poll()
        plan = Plan(self.clock.now_ns(), self.config.max_batch_tokens)
        num_pressed = self._running.num_pressed
        try:
            self._running.regroup(plan)
            self._running.decode(plan)
            self._running.prefill(plan)
            if self._paging.is_on:
                self._paging.is_barred = self._any_copy_is_loose(plan)
            self._admission.admit(plan)
        except BaseException:
            self._withdraw_all("the step could not be scheduled")
            raise
        step = self._settled(plan)
        if step:
            self._admission.end_step(self._running.num_pressed - num_pressed)
            self._in_flight, self._any_aborted = (step, plan), False
        self._emit_scheduled(step, plan)
        return step

    def commit(self, step: ScheduledStep, result: StepResult) -> list[RequestState]:
        """Take what a step has brought.

        Returns:
            The requests that are finished with it.

        Raises:
            InvalidRequest: the step is not in flight, or the result does not fit it; nothing was changed.
        """
        plan = self._require_in_flight(step)
        token_ids = _require_fit(step, result)
        self._in_flight = None
        self.cache.retire_step(step.number)
        now_ns = self.clock.now_ns()
        if self._paging.is_on and step.chunks:
            num_prompt_tokens = step.num_tokens - len(step.decodes)
            self._paging.speed.observe(num_prompt_tokens, step.num_tokens, now_ns - plan.now_ns)
        for chunk in step.chunks:
            chunk.sequence.num_computed = chunk.stop
        sequences, rows, tokens = _sampled(step, plan, token_ids, self._any_aborted)
        self._append(plan, result, rows, tokens, now_ns)
        ends = self._natural_ends(sequences, rows, tokens)
        for chunk in step.chunks:
            if chunk.samples and chunk.sequence.is_live:
                self._running.to_decoding(chunk.sequence.request)
        forks = self._branch(result, ends) if result.branches else []
        for seq_id, reason in result.ended.items():
            if (sequence := self._sequences.get(seq_id)) is not None:
                ends[sequence] = reason
        if not forks:
            return self._end_all(ends, now_ns)
        forks = [(parent, child) for parent, child in forks if child not in ends]
        parents = {parent: ends[parent] for parent, _ in forks if parent in ends}
        others = {sequence: reason for sequence, reason in ends.items() if sequence not in parents}
        finished = self._end_all(others, now_ns)  # first, for their blocks
        self._fork_all(forks, now_ns)
        return finished + self._end_all(parents, now_ns)

    def fail(self, step: ScheduledStep) -> None:
        """Say that a step could not be computed, so that nothing that it was to write can be trusted.

        All running requests wait again, with the tokens that they have, and no cached prefix is used any
        more.

        Raises:
            InvalidRequest: the step is not in flight.
        """
        self._require_in_flight(step)
        self._in_flight = None
        self.cache.retire_step(step.number)
        self._withdraw_all("the step failed")

    # ---- how: requests

    def _require_possible(self, request: Request) -> None:
        size, num_blocks = self.cache.config.block_size, self.cache.config.num_blocks
        length, config = request.prompt.num_tokens, self.config
        most = min(config.max_running, config.max_batch_tokens)
        if request.num_sequences > most:
            raise RequestRefused(
                request.num_sequences, most, "sequences",
                f"request {request.request_id!r} runs {request.num_sequences} sequences at once, and a step "
                f"has at most {most} (max_running, max_batch_tokens): ask for fewer samples or beams",
            )  # fmt: skip
        if not config.chunked_prefill and length + request.max_tokens - 1 > config.max_batch_tokens:
            raise RequestRefused(
                length + request.max_tokens - 1, config.max_batch_tokens, "tokens",
                f"request {request.request_id!r} has {length} prompt tokens and up to {request.max_tokens} "
                f"more; without chunked_prefill they have to fit max_batch_tokens, {config.max_batch_tokens}",
            )  # fmt: skip
        if (needed := request.num_blocks(size)) > num_blocks:
            raise RequestRefused(
                needed, num_blocks, "blocks",
                f"request {request.request_id!r} has {length} prompt tokens and up to {request.max_tokens} "
                f"more in each of {request.num_sequences} sequences: that takes {needed} blocks of {size}, "
                f"and the pool has {num_blocks}; shorten it, or give the pool more blocks",
            )  # fmt: skip

    def _next_seq_id(self) -> int:
        self._num_sequences += 1
        return self._num_sequences - 1

    def _begun(self, sequence: SequenceState) -> SequenceState:
        sequence.request.num_sequences_begun += 1
        self._sequences[sequence.seq_id] = sequence
        return sequence

    # ---- how: schedule

    def _any_copy_is_loose(self, plan: Plan) -> bool:
        """Whether a copy that is to run first in this step reads or writes a block that is free again.

        Whoever a fork was for may have lost its blocks since. What steps write comes behind the copies, pages
        that come into a free block do not.
        """
        if self.cache.tiers is None:
            return False
        if not len(self._running):
            self._copies.clear()  # they are for nobody
        ref_count = self.cache.pool.ref_count
        return any(not ref_count(block) for copy in (*self._copies, *plan.copies) for block in copy)

    def _settled(self, plan: Plan) -> ScheduledStep:
        preempted, self._running.preempted = self._running.preempted, []
        live = [request_id for request_id in preempted if request_id in self._requests]
        if not plan.decodes.seq_ids and not plan.chunks:
            self._copies.extend(plan.copies)
            awaits_pages = self._paging.any_in_flight
            return ScheduledStep(preempted=live, wake_ns=self._admission.opens_ns, awaits_pages=awaits_pages)
        number = self.cache.begin_step(plan.decodes.seq_ids) if plan.decodes.seq_ids else 0
        if plan.chunks:  # retired with this number, the decoding ones are, too
            number = self.cache.begin_step([chunk.sequence.seq_id for chunk in plan.chunks])
        copies, self._copies = [*self._copies, *plan.copies], []
        return ScheduledStep(
            number=number, decodes=plan.decodes, chunks=plan.chunks, copies=copies, preempted=live
        )

    def _emit_scheduled(self, step: ScheduledStep, plan: Plan) -> None:
        if (emit := self.events.emit) is not None:
            emit(
                StepScheduled(
                    now_ns=plan.now_ns,
                    batch_size=step.batch_size,
                    num_decodes=len(step.decodes),
                    num_prefill_tokens=step.num_tokens - len(step.decodes),
                    num_copies=len(step.copies),
                    num_preempted=len(step.preempted),
                    num_running=len(self._running),
                    num_waiting=len(self._waiting),
                    longest_wait_ns=self._waiting.longest_wait_ns(plan.now_ns),
                    num_kv_tokens=step.num_kv_tokens,
                    awaits_pages=step.awaits_pages,
                )
            )

    def _withdraw_all(self, reason: str) -> None:
        """Trust no KV of the last step, and no cached prefix that it may have written."""
        now_ns = self.clock.now_ns()
        for request in sorted(self._running, key=self._running.rank):
            self._running.withdraw(request, None, reason, now_ns, in_flight=True)
        self._copies.clear()
        self.cache.reset_prefix_cache()

    # ---- how: commit

    def _require_in_flight(self, step: ScheduledStep) -> Plan:
        if self._in_flight is None or self._in_flight[0] is not step:
            flying = "none is" if self._in_flight is None else f"step {self._in_flight[0].number} is"
            raise InvalidRequest(f"step {step.number} is not in flight; {flying}")
        return self._in_flight[1]

    def _append(
        self,
        plan: Plan,
        result: StepResult,
        rows: Int64s,
        tokens: Int32s,
        now_ns: int,
    ) -> None:
        """Write down the sampled tokens."""
        if (emit := self.events.emit) is not None:
            later = rows[self._table.num_outputs[rows] > 0]
            gaps = now_ns - self._table.last_ns[later]
        firsts = []
        for sequence in [chunk.sequence for chunk in plan.chunks if chunk.samples]:
            if sequence.is_live and sequence.request.first_token_ns is None:
                sequence.request.first_token_ns = now_ns
                firsts.append(now_ns - sequence.request.arrival_ns)
        self._table.append(rows, tokens, now_ns)
        if emit is not None:
            first_ns = np.array(firsts, np.int64) if firsts else _NO_TIMES
            live = [tokens for seq_id, tokens in result.branches.items() if seq_id in self._sequences]
            num_sampled = len(rows) + sum(len(tokens) - 1 for tokens in live)
            emit(StepCommitted(now_ns, now_ns - plan.now_ns, num_sampled, first_ns, gaps))

    def _natural_ends(
        self, sequences: list[SequenceState], rows: Int64s, tokens: Int32s
    ) -> dict[SequenceState, FinishReason]:
        """The sequences that have all the tokens that they may have, or one that ends them."""
        ends: dict[SequenceState, FinishReason] = dict.fromkeys(
            [sequences[i] for i in self._table.at_limit(rows).tolist()], "length"
        )
        ends.update(dict.fromkeys([sequences[i] for i in self._table.at_stop(rows, tokens).tolist()], "stop"))
        return ends

    def _branch(
        self, result: StepResult, ends: dict[SequenceState, FinishReason]
    ) -> list[tuple[SequenceState, SequenceState]]:
        """Let sequences go on with several tokens, or with none; returns who forks off whom."""
        forks: list[tuple[SequenceState, SequenceState]] = []
        branching = [each for each in map(self._sequences.get, result.branches) if each is not None]
        for request in dict.fromkeys(sequence.request for sequence in branching):
            pairs: list[tuple[SequenceState, SequenceState]] = []
            for parent in list(request.sequences):
                tokens = result.branches.get(parent.seq_id)
                if tokens is None:
                    continue
                ends.pop(parent, None)
                if not tokens:
                    self._end(parent, None)
                    continue
                self._table.replace_last(parent.row, tokens[0])
                for token in tokens[1:]:
                    child = parent.branch(self._next_seq_id(), request.num_sequences_begun)
                    self._table.replace_last(child.row, token)
                    pairs.append((parent, self._begun(child)))
            request.sequences.extend(child for _, child in pairs)
            self._running.batch.changed(request)
            ends.update(self._ends_of(request))
            forks.extend(pairs)
        return forks

    def _ends_of(self, request: RequestState) -> dict[SequenceState, FinishReason]:
        rows = np.array([each.row for each in request.sequences], np.int64)
        tokens = self._table.last_tokens(rows)
        return self._natural_ends(request.sequences, rows, tokens)

    def _fork_all(self, pairs: list[tuple[SequenceState, SequenceState]], now_ns: int) -> None:
        for parent, child in pairs:
            if parent.is_placed:  # or else the request has lost its blocks by now
                self._running.fork(self._copies, parent, child, now_ns)
        if self.cache.config.fork_mode == "full_blocks":
            for request in dict.fromkeys(parent.request for parent, _ in pairs):
                if request.status is Status.DECODING:
                    self._running.catch_up(request)

    def _end(self, sequence: SequenceState, reason: FinishReason | None) -> None:
        """End a sequence, for no reason if it is a beam that is given up; its request may have others."""
        self._running.release(sequence)
        sequence.finish(reason)
        request = sequence.request
        request.sequences.remove(sequence)
        del self._sequences[sequence.seq_id]
        if reason is not None:
            request.finished.append(sequence)

    def _end_all(self, ends: Mapping[SequenceState, FinishReason], now_ns: int) -> list[RequestState]:
        finished = []
        for sequence, reason in ends.items():
            request = sequence.request
            self._end(sequence, reason)
            if request.sequences:
                self._running.batch.changed(request)
            else:
                finished.append(request)
                if request.status is Status.WAITING:  # it lost its blocks when this step branched
                    self._waiting.remove(request)
                    self._paging.leaves(request)
                self._finish(request, now_ns)
        return finished

    def _finish(self, request: RequestState, now_ns: int) -> None:
        """All sequences of a request have ended."""
        self._running.remove(request)
        self._running.num_ended += 1
        request.status, request.finished_ns = Status.FINISHED, now_ns
        del self._requests[request.request_id]
        if (emit := self.events.emit) is not None:
            num_tokens = sum(each.num_output_tokens for each in request.finished)
            reason = request.finished[-1].finish_reason if request.finished else None
            emit(
                RequestFinished(request.request_id, reason or "stop", num_tokens, now_ns - request.arrival_ns)
            )


def _require_fit(step: ScheduledStep, result: StepResult) -> Int32s:
    """Check that a result is one of this step; returns its tokens."""
    token_ids = as_token_ids(result.token_ids)
    if len(token_ids) != step.num_sampled:
        raise InvalidRequest(
            f"step {step.number} samples {step.num_sampled} tokens, the result has {len(token_ids)}"
        )
    if not result.branches and not result.ended:
        return token_ids
    sampling = {each.seq_id: each for each in step.sampling()}
    if not {*result.branches, *result.ended} <= sampling.keys():
        raise InvalidRequest(f"the result branches or ends sequences that step {step.number} does not sample")
    if unknown := {*result.ended.values()} - {*get_args(FinishReason)}:
        raise InvalidRequest(f"sequences end for {unknown}; it must be one of {get_args(FinishReason)}")
    if result.branches:
        as_token_ids([token for tokens in result.branches.values() for token in tokens])
        _require_widths(result, sampling)
    return token_ids


def _require_widths(result: StepResult, sampling: Mapping[int, SequenceState]) -> None:
    """Check that each request goes on with one sequence at least, and with no more than it asked for."""
    more: Counter[RequestState] = Counter()
    for seq_id, tokens in result.branches.items():
        more[sampling[seq_id].request] += len(tokens) - 1
    for request, change in more.items():
        width, most = len(request.sequences) + change, request.request.num_sequences
        if not 1 <= width <= most and request.sequences:  # an aborted one has none any more
            raise InvalidRequest(
                f"request {request.request_id!r} would go on with {width} sequences; it asked for {most}, "
                "and needs one at least: let them end instead"
            )


def _sampled(
    step: ScheduledStep, plan: Plan, token_ids: Int32s, any_aborted: bool
) -> tuple[list[SequenceState], Int64s, Int32s]:
    """The sequences that got a token and are live, their rows in the table of tokens, and the tokens."""
    sequences = step.sampling()
    if any_aborted:
        live = np.array([each.is_live for each in sequences], bool)
        sequences, token_ids = [each for each in sequences if each.is_live], np.asarray(token_ids)[live]
    elif plan.members is not None:
        rest = [each.row for each in sequences[len(plan.members) :]]
        rows = np.concatenate((plan.members.rows, np.array(rest, np.int64))) if rest else plan.members.rows
        return sequences, rows, token_ids
    return sequences, np.array([each.row for each in sequences], np.int64), token_ids
