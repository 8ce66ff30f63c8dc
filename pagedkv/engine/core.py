"""The core of the engine: requests come and go, and one step follows the other."""

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from pagedkv.engine.careful import CarefulTokenizer
from pagedkv.engine.executor import Executor
from pagedkv.engine.groups import Asked
from pagedkv.engine.intake import AnyPrompt, Intake, ModelLimits
from pagedkv.engine.live import SocketPath
from pagedkv.engine.mailboxes import Mailboxes
from pagedkv.engine.observer import Observer
from pagedkv.engine.outputs import RequestOutput
from pagedkv.engine.pause import Pause
from pagedkv.engine.registry import Registry
from pagedkv.engine.request_ids import RequestIds
from pagedkv.engine.stats import EngineStats
from pagedkv.errors import InvalidLogits, PagedKVError
from pagedkv.live import Gate
from pagedkv.request import RequestId
from pagedkv.sampling.detokenizer import Tokenizer
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler import ScheduledStep, Scheduler
from pagedkv.tracing import nvtx_range

__all__ = ["EngineCore"]


class EngineCore:
    """Serves requests by a scheduler and what executes its steps.

    It is not safe for use by several threads at once. A step whose executor raises is as if it had not been:
    the error goes to the caller, and every request goes on with the next step. Only those whose logits are
    no numbers, or at whose tokens the tokenizer raises, are aborted, as they would be the same again.

    Args:
        executor: runs the steps; the engine closes it.
        scheduler: chooses them; nobody else may use it.
        tokenizer: for prompts and outputs that are text; None if there is none.
        limits: what the model takes.
        seed: makes the seeds repeat that are drawn for requests without one.
        debug_socket: where others may look at it while it runs: the path of a Unix socket, a folder, True for
            the usual place, False for nowhere, None for what `PAGEDKV_DEBUG_SOCKET` says.
        metrics_address: where Prometheus finds metrics: "host:port", or ":port" for this machine alone; None
            for nowhere.

    Raises:
        ConfigError: the socket or the address cannot be had.

    Attributes:
        live: where it can be looked at: `socket_path`, `metrics_address`.
        scheduler: the scheduler. Read it freely; only the engine may call what changes it.
        tokenizer: the tokenizer.
    """

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        *,
        tokenizer: Tokenizer | None = None,
        limits: ModelLimits | None = None,
        seed: int | None = None,
        debug_socket: SocketPath = None,
        metrics_address: str | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.tokenizer = tokenizer
        self._executor = executor
        self._intake = Intake(scheduler.cache.config, limits or ModelLimits(), tokenizer, seed)
        self._registry = Registry()
        self._mail = Mailboxes()
        self._ids = RequestIds(scheduler.requests)
        self._forsaken: deque[tuple[RequestId, deque[RequestOutput]]] = deque()
        self._pause = Pause(scheduler)
        self._is_closed = False
        self._gate = Gate()
        self._observer = Observer(scheduler, self._gate, debug_socket, metrics_address)
        self.live = self._observer.live
        self._scheduling = nvtx_range("schedule")
        self._executing = nvtx_range("execute")
        self._reading = nvtx_range("detokenize")
        self._committing = nvtx_range("commit")
        self._delivering = nvtx_range("deliver")
        self._taking = nvtx_range("intake")

    # ---- requests come and go

    def add_request(
        self,
        prompt: AnyPrompt,
        params: SamplingParams | None = None,
        *,
        request_id: RequestId | None = None,
        priority: int = 0,
        namespace: str = "",
        stream: bool = False,
    ) -> RequestId:
        """Let a request wait for its turn.

        Args:
            prompt: a text, its token ids, or a `TokenPrompt` or `KeyPrompt`.
            params: how its tokens are chosen; None for the usual way.
            request_id: an id that is not live; None for the next free number.
            priority: the smaller, the more urgent; for the scheduler's policy "priority".
            namespace: prefixes of different namespaces never match; a prompt object has its own.
            stream: let `step` return what is new of it, not only the whole at its end.

        Returns:
            Its id.

        Raises:
            TokenizerMissing: a text, or stop texts, and the model has no tokenizer.
            InvalidRequest: the prompt is empty, or has tokens that the model does not know.
            RequestRefused: it can never run: it is longer than the model or the pool, with the numbers.
            DuplicateRequest: the id is live.
            ConfigError: parameters that do not go together.
        """
        self._require_open()
        chosen = self._ids.chosen(request_id)
        params = SamplingParams() if params is None else params
        with self._taking:
            taken = self._intake.take(chosen, prompt, params, priority=priority, namespace=namespace)
        with self._gate.lock:
            state = self.scheduler.add(taken.request)
        asked = Asked(
            state=state,
            prompt=taken.text,
            params=taken.params,
            search=taken.search,
            tokenizer=None if self.tokenizer is None else CarefulTokenizer(self.tokenizer),
            streams=stream,
        )
        self._registry.add(asked)
        return chosen

    def abort(self, request_id: RequestId) -> RequestOutput:
        """End a request, at any time; its blocks are free at once, or behind the step that reads them.

        Returns:
            What there was of it. Whoever waits for it gets that too; `step` does not return it.

        Raises:
            UnknownRequest: it is not live.
        """
        output = self._aborted(request_id)
        if self._mail.claims(request_id):
            self._mail.deliver(output)
        return output

    @property
    def has_unfinished(self) -> bool:
        """Whether a call of `step` has anything to do or to tell."""
        return bool(self.scheduler.requests) or bool(self._mail)

    # ---- requests run

    def step(self) -> list[RequestOutput]:
        """Run one step. It does not wait: if requests are held on purpose, nothing happens.

        Returns:
            Requests that have ended, and what is new of those that stream; also what came up while
            `generate` or a stream ran, of requests that they do not wait for.

        Raises:
            InvalidLogits: the model gave no numbers for some requests; these are aborted, the others go on.
            Exception: what the executor raised; nothing is lost, and the next step tries again. Or what the
                tokenizer raised at some requests' tokens; these end, with the text up to there.
        """
        self._require_open()
        self._advance()
        return self._mail.fetch()

    def run_step(self) -> None:
        """Run one step, or sleep until there may be one; outputs are left for those who wait for them.

        Raises:
            InvariantError: requests wait, and nothing will ever wake them.
            Exception: as `step`.
        """
        self._require_open()
        self._pause.after(self._advance())

    def forsake(self, request_ids: Sequence[RequestId], box: deque[RequestOutput]) -> None:
        """Abort those of these requests whose outputs still go to this box, and tell nobody."""
        for request_id in request_ids:
            if self._mail.unclaim(request_id, box):
                self.abort(request_id)

    def forsake_later(self, request_id: RequestId, box: deque[RequestOutput]) -> None:
        """`forsake` before the next step."""
        self._forsaken.append((request_id, box))

    # ---- what it is like

    def stats(self) -> EngineStats:
        """What was measured until now; never raises."""
        return self._observer.stats()

    def snapshot(self, sections: Sequence[str] | None = None) -> dict[str, Any]:
        """Configuration, blocks and live requests as JSON knows them. O(requests + blocks).

        Args:
            sections: which parts, of `pagedkv.engine.SECTIONS`; None for the usual ones.

        Raises:
            InvalidRequest: there is no section of that name.
        """
        return self._observer.copied(sections)()

    # ---- the end

    def close(self) -> None:
        """Abort what is live, and give back what the executor holds; a second call does nothing."""
        if self._is_closed:
            return
        self.live.close()
        for request_id in list(self.scheduler.requests):
            self._aborted(request_id)
        self._is_closed = True
        self._observer.detach()
        try:
            if (tiers := self.scheduler.cache.tiers) is not None:
                tiers.close()
        finally:
            self._executor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- how

    def _advance(self) -> ScheduledStep:
        """Run one step, and deliver what it brought."""
        if self._gate.is_asked:
            self._gate.let_look()
        while self._forsaken:
            request_id, box = self._forsaken.popleft()
            self.forsake([request_id], box)
        with self._scheduling, self._gate.lock:
            step = self.scheduler.schedule()
        if step:
            self._run(step)
        return step

    def _run(self, step: ScheduledStep) -> None:
        try:
            with self._executing:
                sampled = self._executor.execute(step)
            with self._reading:
                result = self._registry.result(step, sampled)
        except BaseException as error:
            self._failed(step)
            if isinstance(error, InvalidLogits):
                self._give_up(error.request_ids)
            raise
        with self._committing, self._gate.lock:
            finished = self.scheduler.commit(step, result)
            self._registry.committed()
        with self._delivering:
            for state in finished:
                self._mail.deliver(self._registry.finish(state))
            for news in self._registry.news():
                self._mail.deliver(news)
        if unreadable := self._registry.unreadable():
            self._give_up([*unreadable])
            raise next(iter(unreadable.values()))

    def _failed(self, step: ScheduledStep) -> None:
        with self._gate.lock:
            self.scheduler.fail(step)
        self._registry.failed()
        self._observer.step_failed()

    def _give_up(self, request_ids: Sequence[RequestId]) -> None:
        """Abort requests that no step can serve, and tell whoever waits for them."""
        for request_id in request_ids:
            if request_id in self.scheduler.requests:
                self._mail.deliver(self._aborted(request_id))

    def _aborted(self, request_id: RequestId) -> RequestOutput:
        with self._gate.lock:
            state = self.scheduler.abort(request_id)
        return self._registry.finish(state)

    def _require_open(self) -> None:
        if self._is_closed:
            raise PagedKVError("the engine is closed; make another one")
