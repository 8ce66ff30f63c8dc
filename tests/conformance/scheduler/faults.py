"""Schedulers with one fault each."""

import time

from pytest_pagedkv.conformance.scheduler.adapter import Refused, Scheduled, SchedulerFeature, Step
from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance
from tests.conformance.planting import Faults
from tests.conformance.scheduler.reference import Entry, ReferenceScheduler, SwappingScheduler


class Impatient(SchedulerConformance):
    """Does not wait long for what hangs."""

    call_limit_s = 2.0


FAULTS = Faults(Impatient)
planted = FAULTS.planted
RANDOM = "test_random_programs"


# ---- finishing and refusing


@planted("finishes", RANDOM)
class DoesNotTell(ReferenceScheduler):
    """Finishes requests of one token silently."""

    def commit(self, sampled):
        ones = {i for i, entry in self.entries.items() if entry.request.max_tokens == 1}
        return [request_id for request_id in super().commit(sampled) if request_id not in ones]


@planted("finishes", RANDOM)
class FinishesEarly(ReferenceScheduler):
    """Counts the prompt's last token as generated."""

    def is_done(self, entry):
        return super().is_done(entry) or len(entry.tokens) == len(entry.request.token_ids) + 3


@planted("finishes", RANDOM)
class FinishesTwice(ReferenceScheduler):
    """Tells of two requests as often as they are."""

    def commit(self, sampled):
        done = super().commit(sampled)
        return done + done[:1] if len(done) > 1 else done


@planted("refusal", "test_one_that_can_never_run")
class TakesEverything(ReferenceScheduler):
    """Does not look whether a request can run."""

    def check_fits(self, request):
        pass


@planted("refusal", RANDOM)
class ForgetsTheOutput(ReferenceScheduler):
    """Looks at the prompt only."""

    def check_fits(self, request):
        if self.blocks(len(request.token_ids)) > self.num_blocks:
            raise Refused(self.blocks(len(request.token_ids)), self.num_blocks)


@planted("refusal", RANDOM)
class RefusesAWholePool(ReferenceScheduler):
    """Is off by one."""

    def check_fits(self, request):
        super().check_fits(request)
        if self.blocks(len(request.token_ids) + request.max_tokens) == self.num_blocks:
            raise Refused(self.num_blocks + 1, self.num_blocks)


@planted("refusal", RANDOM)
class RefusesWhenBusy(ReferenceScheduler):
    """Refuses what does not fit now."""

    def check_fits(self, request):
        super().check_fits(request)
        if self.blocks(len(request.token_ids)) > self.free:
            raise Refused(self.blocks(len(request.token_ids)), self.free)


@planted("refusal", "test_one_that_can_never_run")
class RefusesWithoutNumbers(ReferenceScheduler):
    """Gives no reason."""

    def check_fits(self, request):
        try:
            super().check_fits(request)
        except Refused:
            raise Refused(0, 0) from None


@planted("outputs", RANDOM)
class LosesATokenWhenPreempting(ReferenceScheduler):
    """Tells one token less of a request that was preempted."""

    def preempt(self, entry):
        super().preempt(entry)
        entry.is_short = True

    def output_ids(self, request_id):
        tokens = super().output_ids(request_id)
        return tokens[:-1] if hasattr(self.done[request_id], "is_short") else tokens


# ---- steps


@planted("budget", RANDOM)
class IgnoresTheBudget(ReferenceScheduler):
    """Computes prompts as a whole."""

    def chunk(self, entry, budget):
        return len(entry.tokens) - entry.num_computed if budget else 0


@planted("budget", RANDOM)
class IgnoresTheBatchSize(ReferenceScheduler):
    """Admits one request too many."""

    def admit(self, budget):
        self.max_running += 1
        scheduled = super().admit(budget)
        self.max_running -= 1
        return scheduled


@planted("no-duplicate", RANDOM)
class SchedulesTwice(ReferenceScheduler):
    """Splits a long chunk in two parts of a step."""

    def schedule(self):
        step = super().schedule()
        parts = [
            part
            for whole in step.scheduled
            for part in (
                [
                    Scheduled(whole.request_id, whole.start, 4),
                    Scheduled(whole.request_id, whole.start + 4, whole.num_tokens - 4),
                ]
                if whole.num_tokens > 4
                else [whole]
            )
        ]
        return Step(parts, step.preempted)


@planted("no-duplicate", RANDOM)
class RunsWhatItPreempts(ReferenceScheduler):
    """Leaves a preempted request in the batch."""

    def schedule(self):
        running = {entry.request.request_id: entry.num_computed for entry in self.running}
        step = super().schedule()
        stale = [Scheduled(i, running[i], 1) for i in step.preempted if i in running]
        return Step([*step.scheduled, *stale][: self.max_running], step.preempted)


@planted("known-request", RANDOM)
class RunsTheFinished(ReferenceScheduler):
    """Keeps a request that is done in the next batch."""

    def finish(self, entry):
        super().finish(entry)
        self.stale = entry.request.request_id

    def schedule(self):
        step = super().schedule()
        stale = self.__dict__.pop("stale", None)
        if stale is None or stale in self.entries:
            return step
        return Step([*step.scheduled, Scheduled(stale, 0, 1)], step.preempted)


@planted("known-request", RANDOM)
class PreemptsTheWaiting(ReferenceScheduler):
    """Says that a request is preempted which was not running."""

    def schedule(self):
        step = super().schedule()
        if len(self.waiting) > 2 and not step.preempted:
            return Step(step.scheduled, [max(self.waiting, key=lambda e: e.arrival).request.request_id])
        return step


@planted("in-order", RANDOM)
class ComputesChunksTwice(ReferenceScheduler):
    """Starts the second chunk of a prompt from the beginning."""

    def part(self, entry, num_tokens):
        start = 0 if 0 < entry.num_computed < len(entry.request.token_ids) else entry.num_computed
        return Scheduled(entry.request.request_id, start, super().part(entry, num_tokens).num_tokens)


@planted("in-order", RANDOM)
class SkipsATokenBetweenChunks(ReferenceScheduler):
    """Is off by one at the start of the second chunk."""

    def part(self, entry, num_tokens):
        part = super().part(entry, num_tokens)
        if num_tokens > 1 and part.start:
            return Scheduled(part.request_id, part.start + 1, num_tokens - 1)
        return part


@planted("no-overrun", RANDOM)
class LooksAhead(ReferenceScheduler):
    """Schedules a token that is not sampled yet."""

    def part(self, entry, num_tokens):
        part = super().part(entry, num_tokens)
        if part.start + num_tokens == len(entry.tokens) and num_tokens < self.token_budget:
            return Scheduled(part.request_id, part.start, num_tokens + 1)
        return part


@planted("no-overrun", RANDOM)
class SchedulesNothing(ReferenceScheduler):
    """Puts a waiting request in the batch for which there is no room."""

    def schedule(self):
        step = super().schedule()
        waiting = [entry.request.request_id for entry in self.waiting]
        rest = [Scheduled(i, 0, 0) for i in waiting[:1] if i not in step.preempted]
        return Step([*step.scheduled, *rest], step.preempted)


@planted("cached-truth", RANDOM)
class ResumesWithoutKV(ReferenceScheduler):
    """Does not recompute what it preempted."""

    def kept(self, entry):
        return entry.num_computed


@planted("cached-truth", RANDOM)
class HitsByLength(SwappingScheduler):
    """Takes the prompts of a length for the same."""

    def add_request(self, request):
        super().add_request(request)
        seen = self.__dict__.setdefault("seen", set())
        if len(request.token_ids) in seen:
            self.entries[request.request_id].num_computed = len(request.token_ids) - 1
        seen.add(len(request.token_ids))


# ---- blocks


@planted("pool-kept", RANDOM)
class OvercommitsThePool(ReferenceScheduler):
    """Grows requests whether there are blocks or not."""

    def grow(self, entry, num_tokens, preempted):
        needed = self.blocks(entry.num_computed + num_tokens) - entry.num_blocks
        self.free = max(0, self.free - needed)
        entry.num_blocks += needed
        return True


@planted("pool-kept", RANDOM)
class FreesTwice(ReferenceScheduler):
    """Gives an aborted request's blocks back at once and again after the step."""

    def abort(self, request_id):
        self.deferred += self.entries[request_id].num_blocks if self.in_flight else 0
        super().abort(request_id)


@planted("pool-kept", RANDOM)
class FreesWhatItReads(ReferenceScheduler):
    """Gives the blocks of a request back that goes on."""

    def commit(self, sampled):
        done = super().commit(sampled)
        for entry in self.running:
            if entry.num_blocks > 1 and entry.num_computed % self.block_size == 0:
                entry.num_blocks -= 1
                self.free += 1
        return done


@planted("come-home", RANDOM)
class LeaksOnAbort(ReferenceScheduler):
    """Keeps the blocks of what is aborted between schedule and commit."""

    def abort(self, request_id):
        if self.in_flight:
            self.entries[request_id].num_blocks = 0
        super().abort(request_id)


@planted("come-home", "test_abort_at_every_point", True)
class LeaksDeferredBlocks(ReferenceScheduler):
    """Forgets deferred blocks if the step finishes nothing."""

    def commit(self, sampled):
        if not any(
            len(entry.tokens) + 1 == len(entry.request.token_ids) + entry.request.max_tokens
            for entry in self.running
        ):
            self.deferred = 0
        return super().commit(sampled)


@planted("come-home", RANDOM)
class LeaksOnFinish(ReferenceScheduler):
    """Gives back the blocks of the prompt only."""

    def finish(self, entry):
        entry.num_blocks = self.blocks(len(entry.request.token_ids))
        super().finish(entry)


@planted("come-home", RANDOM)
class LeaksOnPreemption(ReferenceScheduler):
    """Loses a block of a preempted request that had several."""

    def preempt(self, entry):
        entry.num_blocks -= entry.num_blocks > 1
        super().preempt(entry)


# ---- waiting


@planted("progress", "test_tiny_pool")
class DropsThePreempted(ReferenceScheduler):
    """Loses a request that it preempts."""

    def preempt(self, entry):
        super().preempt(entry)
        self.waiting.remove(entry)


@planted("progress", RANDOM)
class KeepsAWatermark(ReferenceScheduler):
    """Always keeps a block free: what needs the whole pool waits for ever."""

    def fits(self, entry):
        self.free -= 1
        fits = super().fits(entry)
        self.free += 1
        return fits


@planted("progress", RANDOM)
class ForgetsTheWaiting(ReferenceScheduler):
    """Looks at waiting requests only when something is running, or new."""

    def admit(self, budget):
        if not self.running and self.num_arrivals == self.__dict__.get("seen"):
            return []
        self.seen = self.num_arrivals
        return super().admit(budget)


@planted("bounded-wait", "test_no_starvation", 5, 1)
class SmallestFirst(ReferenceScheduler):
    """Lets the small ones pass the large one for ever."""

    def order(self, entry):
        return len(entry.request.token_ids), entry.arrival


@planted("bounded-wait", "test_no_starvation", 1, 5)
class LargestFirst(ReferenceScheduler):
    """Lets the large ones pass the small one for ever."""

    def order(self, entry):
        return -len(entry.request.token_ids), entry.arrival


@planted("bounded-wait", "test_no_starvation", 5, 1)
class SkipsWhatDoesNotFit(ReferenceScheduler):
    """Admits whatever fits: the large one never does."""

    def admit(self, budget):
        scheduled = []
        waiting = sorted(self.waiting, key=self.order)
        for entry in waiting:
            self.waiting = [entry]
            admitted = super().admit(budget)
            budget -= sum(part.num_tokens for part in admitted)
            scheduled += admitted
        admitted_ids = {part.request_id for part in scheduled}
        self.waiting = [entry for entry in waiting if entry.request.request_id not in admitted_ids]
        return scheduled


@planted("bounded-wait", "test_no_starvation", 5, 1)
class LastComeFirstServed(ReferenceScheduler):
    """Serves the youngest first, and says that it is fair."""

    def order(self, entry):
        return -entry.arrival


@planted("bounded-wait", "test_urgent_first")
class LeastUrgentFirst(ReferenceScheduler):
    """Takes a large number for an urgent one."""

    def order(self, entry):
        return -entry.request.priority, entry.arrival


@planted("bounded-preemption", "test_long_prompt")
class AdmitsWhatItWillPreempt(ReferenceScheduler):
    """Admits a request when its first block fits, and preempts it when the next one does not."""

    def fits(self, entry):
        return self.free > 0

    def admit(self, budget):
        return super().admit(min(budget, 1))


# ---- aborts, misuse


@planted("abort", RANDOM)
class RunsTheAborted(ReferenceScheduler):
    """Forgets to take an aborted request out of the queue."""

    def abort(self, request_id):
        entry = self.entries[request_id]
        super().abort(request_id)
        if not entry.num_computed:
            self.waiting.append(entry)


@planted("abort", RANDOM)
class FinishesTheAborted(ReferenceScheduler):
    """Tells of requests that were aborted during the step."""

    def abort(self, request_id):
        super().abort(request_id)
        if self.in_flight:
            self.stale = [request_id]

    def commit(self, sampled):
        return [*super().commit(sampled), *self.__dict__.pop("stale", [])]


@planted("documented-errors", RANDOM)
class FailsOnAbortInFlight(ReferenceScheduler):
    """Commits results of requests that are no longer there."""

    def schedule(self):
        step = super().schedule()
        self.batch = [part.request_id for part in step.scheduled]
        return step

    def commit(self, sampled):
        assert all(request_id in self.entries for request_id in self.batch)
        return super().commit(sampled)


@planted("documented-errors", RANDOM)
class TakesALiveId(ReferenceScheduler):
    """Replaces a request by another of its id."""

    def add_request(self, request):
        if request.request_id in self.entries:
            self.abort(request.request_id)
        super().add_request(request)


@planted("documented-errors", RANDOM)
class AbortsAnything(ReferenceScheduler):
    """Accepts the abort of what it does not know."""

    def abort(self, request_id):
        if request_id in self.entries:
            super().abort(request_id)


@planted("well-formed", RANDOM)
class AnswersWithNone(ReferenceScheduler):
    """Returns no step when nothing is to be done."""

    def schedule(self):
        return super().schedule() if self.entries else None


@planted("well-formed", "test_tiny_pool")
class Hangs(ReferenceScheduler):
    """Looks for a victim for ever."""

    def victim(self) -> Entry:
        while True:
            time.sleep(0.001)


@planted("refusal", RANDOM)
class PromisesChunks(SwappingScheduler):
    """Says that it computes prompts in pieces, and refuses them."""

    features = SwappingScheduler.features | SchedulerFeature.CHUNKED_PREFILL

    def check_fits(self, request):
        if len(request.token_ids) > self.token_budget:
            raise Refused(len(request.token_ids), self.token_budget, "tokens")
        super().check_fits(request)
