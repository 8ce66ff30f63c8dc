"""Our own scheduler and engine with one fault each."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pagedkv.errors import RequestRefused
from pagedkv.scheduler import FinishReason, SequenceState
from pytest_pagedkv.adapters.pagedkv_engine import PagedKVEngineAdapter
from pytest_pagedkv.adapters.pagedkv_scheduler import PagedKVSchedulerAdapter
from pytest_pagedkv.conformance.scheduler.adapter import SchedulerFeature
from tests.conformance.planting import Faults
from tests.conformance.scheduler.faults import RANDOM, Impatient

FAULTS = Faults(Impatient)
planted = FAULTS.planted


class Planted(PagedKVSchedulerAdapter):
    """A scheduler of which methods are replaced, one by one."""

    def __init__(self, *made_with: Any) -> None:
        super().__init__(*made_with)
        self.running, self.admission = self.scheduler._running, self.scheduler._admission
        self.plant()

    def plant(self) -> None:
        """Replace what this fault gets wrong, unless it overrides a method."""


# ---- refusing and finishing


@planted("refusal", RANDOM)
class SwapsTheNumbers(Planted):
    """Says what there is where it should say what is needed."""

    def plant(self):
        check = self.scheduler._require_possible

        def swapped(request):
            try:
                check(request)
            except RequestRefused as refused:
                raise RequestRefused(
                    refused.available, refused.needed, refused.unit, str(refused)
                ) from refused

        self.scheduler._require_possible = swapped


@planted("refusal", "test_one_that_can_never_run")
class TakesWhatCannotRun(Planted):
    """Does not look at the pool."""

    def plant(self):
        self.scheduler._require_possible = lambda request: None


@planted("outputs", RANDOM)
class ForgetsATokenWhenPreempting(Planted):
    """The last token of a preempted request is another one when it is computed again."""

    def plant(self):
        withdraw, table = self.running.withdraw, self.scheduler._table

        def forgetful(request, *others):
            withdraw(request, *others)
            for sequence in request.sequences:
                if sequence.num_output_tokens:
                    table.replace_last(sequence.row, 0)

        self.running.withdraw = forgetful


@planted("outputs", RANDOM)
class LosesATokenWhenPreempting(Planted):
    """A preempted request has a token less when it is computed again, and asks for it once more."""

    def plant(self):
        withdraw, table = self.running.withdraw, self.scheduler._table

        def lossy(request, *others):
            withdraw(request, *others)
            for sequence in request.sequences:
                table.num_outputs[sequence.row] = max(0, sequence.num_output_tokens - 1)

        self.running.withdraw = lossy


@planted("outputs", "test_abort_at_every_point", True)
class GivesTokensToTheWrongOnes(Planted):
    """Tokens of a step from which a request was aborted move up by one place."""

    def commit(self, sampled):
        sampling = self._step.sampling()
        if all(each.is_live for each in sampling):
            return super().commit(sampled)
        tokens = self._tokens(sampled)
        live = [token for token, each in zip(tokens, sampling, strict=True) if each.is_live]
        self._tokens = lambda _: live + tokens[len(live) :]
        done = super().commit(sampled)
        del self._tokens
        return done


# ---- steps


@planted("budget", RANDOM)
class IsOffByOneToken(Planted):
    """Counts the tokens of a step from one."""

    def plant(self):
        admit = self.admission.admit

        def generous(plan):
            plan.num_tokens += 1
            admit(plan)

        self.admission.admit = generous


@planted("no-overrun", RANDOM)
class ChunkIsATokenTooLong(Planted):
    """A second chunk ends a token behind what there is."""

    def plant(self):
        chunk = self.running._chunk
        self.running._chunk = lambda sequence, target: chunk(sequence, target) + 1


@planted("cached-truth", RANDOM)
class CountsATokenMore(Planted):
    """Counts a token more as cached than there is in the blocks that were found."""

    def plant(self):
        self.admit, self.scheduler.cache.admit = self.scheduler.cache.admit, self.hopeful

    def hopeful(self, seq_id, token_ids, namespace):
        placed = self.admit(seq_id, token_ids, namespace)
        more = placed.num_cached_tokens < len(token_ids) - 1
        return replace(placed, num_cached_tokens=placed.num_cached_tokens + more)


@planted("in-order", RANDOM)
class ForgetsAChunk(Planted):
    """A prompt that was computed in part goes on where its last chunk began."""

    def commit(self, sampled):
        before = [(chunk.sequence, chunk.start) for chunk in self._step.chunks if not chunk.samples]
        done = super().commit(sampled)
        pool = self.scheduler.cache.pool
        for sequence, start in before:
            if pool.num_free * self.scheduler.cache.config.block_size >= sequence.num_tokens - start:
                sequence.num_computed = start  # where no block is left for it, it would not go on at all
        return done


# ---- waiting


@planted("progress", RANDOM)
class KeepsBlocksForNobody(Planted):
    """Keeps the watermark free even when nothing runs: what needs the whole pool waits for ever."""

    def plant(self):
        begin, cache = self.admission._begin, self.scheduler.cache

        def careful(plan, request):
            needed = -(-request.request.prompt.num_tokens // cache.config.block_size)
            return "kept" if cache.pool.num_free - needed < 1 else begin(plan, request)

        self.admission._begin = careful


@planted("progress", RANDOM)
class WindowNeverCloses(Planted):
    """The window in which a batch forms begins again with every step."""

    settings: ClassVar = {"policy": "priority", "batch_merge_window_ms": 35.0}
    max_idle_s = 0.04

    def plant(self):
        queue = self.scheduler._waiting
        queue.oldest_new_ns = lambda: self.scheduler.clock.now_ns() if queue.num_new_tokens else None


@planted("progress", RANDOM)
class WaitsForAnEndThatWas(Planted):
    """A preempted request waits until another one ends, though none runs any more."""

    def plant(self):
        gates = self.admission._gates

        def strict(request, num_running):
            return gates(request, max(1, num_running))

        self.admission._gates = strict


@planted("bounded-wait", "test_no_starvation", 5, 1)
class OvertakesForEver(Planted):
    """Lets whatever fits pass the one that does not."""

    def plant(self):
        self.admission._is_next = lambda request: False
        self.admission._is_in_line = lambda request: False


@planted("bounded-wait", "test_urgent_first")
class InvertsThePriority(Planted):
    """The least urgent goes first."""

    def plant(self):
        rank = self.running.rank

        def inverted(request):
            first, priority, number = rank(request)
            return first, -priority, number

        self.running.rank = inverted


@planted("bounded-preemption", "test_long_prompt")
class ReadmitsAtOnce(Planted):
    """Begins a request when its first chunk fits, also one that was just preempted."""

    features = Planted.features & ~SchedulerFeature.CACHED_TOKENS
    prefix_caching = False

    def plant(self):
        self.running.num_promised_blocks = lambda: -self.num_blocks

    def commit(self, sampled):
        done = super().commit(sampled)
        for request in self.scheduler.requests.values():
            request.num_ended_before = -1
        return done


# ---- blocks


@planted("come-home", RANDOM)
class LeaksWhatIsAbortedInFlight(Planted):
    """Blocks that an abort left to the step in flight stay with it."""

    def abort(self, request_id):
        release, is_flying = self.running.release, self.scheduler.in_flight is not None
        if is_flying:
            self.running.release = lambda sequence: None
        try:
            super().abort(request_id)
        finally:  # whoever is not live cannot be aborted
            self.running.release = release


@planted("come-home", RANDOM)
class ForgetsTheStep(Planted):
    """Does not tell the cache that the step is done if somebody was aborted during it."""

    def commit(self, sampled):
        if all(each.is_live for each in self._step.sampling()):
            return super().commit(sampled)
        retire, self.scheduler.cache.retire_step = self.scheduler.cache.retire_step, lambda step: None
        done = super().commit(sampled)
        self.scheduler.cache.retire_step = retire
        return done


@planted("documented-errors", RANDOM)
class FreesTwice(Planted):
    """Releases what a finished request has, twice."""

    def plant(self):
        end = self.scheduler._end

        def eager(sequence: SequenceState, reason: FinishReason | None):
            is_placed = sequence.is_placed
            end(sequence, reason)
            if is_placed:
                self.scheduler.cache.release(sequence.seq_id)

        self.scheduler._end = eager


# ---- aborts


@planted("abort", RANDOM)
class RunsTheAborted(Planted):
    """An aborted request stays in the queue."""

    def abort(self, request_id):
        state = self.scheduler.requests.get(request_id)
        super().abort(request_id)
        if state is not None and not state.num_preemptions and state.first_scheduled_ns is None:
            self.zombie = state

    def schedule(self):
        step = super().schedule()
        zombie = self.__dict__.pop("zombie", None)
        if zombie is None or zombie.request_id in self.scheduler.requests:
            return step
        part = type(step.scheduled[0])(zombie.request_id, 0, 1) if step.scheduled else None
        return step if part is None else type(step)([*step.scheduled[:-1], part], step.preempted)


# ---- the engine


@planted("abort", RANDOM)
class TellsOfTheAborted(PagedKVEngineAdapter):
    """The engine hands out what it had of an aborted request with the next step."""

    def abort(self, request_id):
        self.engine._mail.deliver(self.engine.abort(request_id))


@planted("outputs", RANDOM)
class TellsTooMuch(PagedKVEngineAdapter):
    """The engine tells the tokens of a preempted request twice."""

    def output_ids(self, request_id):
        tokens = list(super().output_ids(request_id))
        return tokens + tokens[-1:] if len(tokens) > 1 else tokens


@planted("finishes", RANDOM)
class TellsLate(PagedKVEngineAdapter):
    """The engine keeps what is finished until the next step."""

    def commit(self, sampled):
        late = self.__dict__.pop("late", [])
        self.late = super().commit(sampled)
        return late


@planted("documented-errors", RANDOM)
class LosesTheStepOfTheAborted(PagedKVEngineAdapter):
    """The executor brings no token for what was aborted meanwhile."""

    def _tokens(self, sampled):
        sampling = self._step.sampling()
        tokens = np.array(super()._tokens(sampled), np.int32)
        return tokens[[each.is_live for each in sampling]].tolist()
