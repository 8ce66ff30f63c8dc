"""The engine: prompts in, outputs out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any

from pagedkv.engine.core import EngineCore
from pagedkv.engine.intake import AnyPrompt
from pagedkv.engine.outputs import RequestOutput
from pagedkv.engine.streams import OutputStream
from pagedkv.errors import InvalidRequest
from pagedkv.request import Prompt, RequestId
from pagedkv.sampling.params import SamplingParams

if TYPE_CHECKING:
    from os import PathLike

    from pagedkv.clock import Clock
    from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
    from pagedkv.engine.live import SocketPath
    from pagedkv.pitfalls import Thresholds
    from pagedkv.recording import RunRecorder

__all__ = ["Engine", "Progress"]

Progress = Callable[[int, int], None]
"""Called with how many requests are done, and how many there are."""


class Engine(EngineCore):
    """Serves a model: everything of `EngineCore`, and calls that run it until something is there.

    `Engine.from_pretrained` makes one for a model of transformers; the constructor takes any executor.
    """

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: "str | PathLike[str]",
        *,
        cache: "CacheConfig | None" = None,
        scheduler: "SchedulerConfig | None" = None,
        offload: "OffloadConfig | None" = None,
        dtype: Any = "auto",
        device: Any = None,
        revision: str = "main",
        max_model_len: int | None = None,
        clock: "Clock | None" = None,
        seed: int | None = None,
        tensor_parallel_size: int | None = None,
        debug_socket: "SocketPath" = None,
        metrics_address: str | None = None,
        warm_up: bool = True,
    ) -> "Engine":
        """An engine for a model of Hugging Face transformers. Needs torch and transformers.

        Args:
            path_or_name: a folder with a configuration and safetensors, or a name on the Hub.
            cache: settings of the cache; None for as many blocks of 16 tokens as fit, and are of use.
            scheduler: settings of the scheduler; None for the usual ones.
            offload: memory below the device for blocks that are evicted; None for none.
            dtype: of weights and KV: "float32", "float16", "bfloat16", or "auto", as the model was saved.
            device: where to; None for the GPU if there is one.
            revision: branch, tag or commit on the Hub.
            max_model_len: a smaller bound of the length than the model's own.
            clock: what tells the time; None for that of this machine.
            seed: makes the seeds repeat that are drawn for requests without one.
            tensor_parallel_size: processes that share the model; None for those that torchrun has started.
                All of them make the same calls, in the same order.
            debug_socket: as the constructor's.
            metrics_address: likewise.
            warm_up: on a GPU, compile all kernels and record CUDA graphs now. Without, the engine is there
                sooner, kernels are compiled in the first steps that need them, and there are no graphs.

        Raises:
            ModelNotFound: there is no model, or no weights.
            UnsupportedModel: an architecture that cannot be served, with the reason.
            PoolTooLarge: the memory of the blocks cannot be had; says how many would fit.
            ConfigError: a setting that cannot work, torch or transformers is missing, or the socket or the
                address cannot be had.
        """
        from pagedkv.engine.pretrained import load_parts

        parts = load_parts(
            path_or_name,
            cache=cache,
            scheduler=scheduler,
            offload=offload,
            dtype=dtype,
            device=device,
            revision=revision,
            max_model_len=max_model_len,
            clock=clock,
            seed=seed,
            tensor_parallel_size=tensor_parallel_size,
            warm_up=warm_up,
        )
        try:
            return cls(
                parts.executor,
                parts.scheduler,
                tokenizer=parts.tokenizer,
                limits=parts.limits,
                seed=parts.seed,
                debug_socket=debug_socket,
                metrics_address=metrics_address,
            )
        except BaseException:  # a socket that cannot be had
            if (tiers := parts.scheduler.cache.tiers) is not None:
                tiers.close()
            parts.executor.close()
            raise

    def generate(
        self,
        prompts: str | Prompt | Sequence[AnyPrompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[RequestOutput]:
        """Run these prompts, beside whatever else runs, until all of them have ended.

        If anything is raised, none of them is left behind.

        Args:
            prompts: the prompts; a single text, or prompt object, is one.
            params: how their tokens are chosen: for all, or for each; None for the usual way.
            progress: is called whenever requests have ended.

        Returns:
            Their outputs, in the order of the prompts.

        Raises:
            InvalidRequest: the numbers of prompts and of parameters differ, or there is no list of prompts.
            Exception: as `add_request` and `step`.
        """
        pairs = _paired(prompts, params)
        box: deque[RequestOutput] = deque()
        found: dict[RequestId, RequestOutput] = {}
        request_ids: list[RequestId] = []
        try:
            for prompt, each in pairs:
                request_ids.append(self.add_request(prompt, each))
                self._mail.claim(request_ids[-1], box)
            while len(found) < len(request_ids):
                self.run_step()
                found.update((each.request_id, each) for each in box)
                if box and progress is not None:
                    progress(len(found), len(request_ids))
                box.clear()
        finally:
            self.forsake(request_ids, box)
        return [found[request_id] for request_id in request_ids]

    def stream(
        self,
        prompt: AnyPrompt,
        params: SamplingParams | None = None,
        *,
        request_id: RequestId | None = None,
        priority: int = 0,
        namespace: str = "",
    ) -> OutputStream:
        """Add a request, and iterate over what is new of it: texts and tokens since the output before.

        A beam search has nothing to tell before its end. Arguments and errors are those of `add_request`.
        """
        box: deque[RequestOutput] = deque()
        chosen = self.add_request(
            prompt, params, request_id=request_id, priority=priority, namespace=namespace, stream=True
        )
        self._mail.claim(chosen, box)
        return OutputStream(self, chosen, box)

    @contextmanager
    def record(
        self, path: "str | PathLike[str]", *, thresholds: "Thresholds | None" = None, **about: Any
    ) -> "Iterator[RunRecorder]":
        """Record what happens within a `with` block; at its end, also after an error, the file is written.

        Args:
            path: the file, for `pagedkv report`.
            thresholds: above which numbers detectors speak; None for the usual ones.
            about: what is run: names and values that JSON knows, for whoever reads the file.

        Raises:
            RecordError: the file cannot be written, and is as it was.
        """
        from pagedkv.recording import RunRecorder

        recorder = RunRecorder(self.scheduler, thresholds=thresholds, about=about)
        self.scheduler.events.attach(recorder)
        try:
            yield recorder
        finally:
            self.scheduler.events.detach(recorder)
            recorder.write(path)


def _listed(prompts: str | Prompt | Sequence[AnyPrompt]) -> Sequence[AnyPrompt]:
    """The prompts; a single one is a list of one, but for token ids, which could be meant as several."""
    if isinstance(prompts, str | Prompt):
        return [prompts]
    if not isinstance(prompts, Iterable):
        raise InvalidRequest(f"prompts are {prompts!r:.40}; they must be a list")
    every = list(prompts)
    if every and isinstance(every[0], Integral):
        raise InvalidRequest(
            f"the first of {len(every)} prompts is {every[0]!r:.40}; token ids of one prompt go into a list "
            "of their own: [[1, 2, 3]]"
        )
    return every


def _paired(
    prompts: str | Prompt | Sequence[AnyPrompt],
    params: SamplingParams | Sequence[SamplingParams] | None,
) -> list[tuple[AnyPrompt, SamplingParams | None]]:
    every = _listed(prompts)
    if params is None or isinstance(params, SamplingParams):
        return [(prompt, params) for prompt in every]
    if len(params) != len(every):
        raise InvalidRequest(
            f"{len(every)} prompts, and {len(params)} SamplingParams; give one for each, or one for all"
        )
    return list(zip(every, params, strict=True))
