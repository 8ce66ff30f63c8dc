"""What runs the steps of a scheduler on a model."""

import numpy as np

from pagedkv.block_manager import BlockManager
from pagedkv.errors import ConfigError, InvalidRequest
from pagedkv.events import StepCompiled
from pagedkv.kv_store import KVStore
from pagedkv.models.compile_watch import CompileWatch
from pagedkv.models.memory import make_kv_store
from pagedkv.models.packed import PackedModel
from pagedkv.models.packed_linear import PackedLinears
from pagedkv.models.spec import LoadedModel
from pagedkv.sampling.sampled import Sampled
from pagedkv.sampling.sampler import Sampler
from pagedkv.scheduler.step import ScheduledStep
from pagedkv.tracing import nvtx_range

__all__ = ["TorchExecutor"]


class TorchExecutor:
    """Runs steps: copies, KV, attention, sampling.

    On a GPU its kernels are compiled, and CUDA graphs of decodes are recorded, when it is made. Kernels that
    steps compile after all are told to the events of the cache, as `StepCompiled`.

    Args:
        loaded: the model.
        cache: the bookkeeping of its blocks; the store gets as many.
        store: keys and values of the blocks; None to make them.
        max_batch: sequences that decode at once at most.
        cuda_graphs: whether steps of decodes alone run as CUDA graphs; None for where there is a GPU.
        warm_up: whether kernels are compiled and graphs recorded now. Without, each kernel is when a step
            first needs it, and there are no graphs: for short runs that may begin at once.
        pack_linear: whether large linear layers on a CPU multiply by packed copies of their weights, until
            the executor is closed. It is quicker, and takes their memory a second time; where that is
            missing, they stay as they are. See `PackedLinears`.

    Raises:
        PoolTooLarge: the memory of the blocks cannot be had; says how many would fit.
        ConfigError: graphs without a GPU.
        KernelInputError: the GPU has no kernels for these sizes.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        cache: BlockManager,
        *,
        store: KVStore | None = None,
        max_batch: int = 256,
        cuda_graphs: bool | None = None,
        pack_linear: bool = True,
        warm_up: bool = True,
    ) -> None:
        on_gpu = loaded.spec.device.type == "cuda"
        if cuda_graphs and not on_gpu:
            raise ConfigError(f"cuda_graphs is True, and the model is on {loaded.spec.device}; leave it out")
        config = cache.config
        if store is None:
            store = make_kv_store(loaded.spec, num_blocks=config.num_blocks, block_size=config.block_size)
        self._packed: PackedModel | None = PackedModel(loaded, cache, store)
        self._sampler = Sampler()
        self._sampling = nvtx_range("sample")
        self._linears = PackedLinears(loaded.model, reserved=store.num_bytes) if pack_linear else None
        self._events = cache.events
        self._watch = CompileWatch() if on_gpu else None
        if on_gpu and warm_up:
            self._packed.warm_up(max_batch=max_batch, cuda_graphs=cuda_graphs is not False)

    @property
    def packed(self) -> PackedModel:
        """The model over its store.

        Raises:
            InvalidRequest: the executor is closed.
        """
        if self._packed is None:
            raise InvalidRequest("the executor is closed; make another")
        return self._packed

    def execute(self, step: ScheduledStep) -> Sampled:
        """Compute a step, and sample behind it."""
        if self._watch is None or (emit := self._events.emit) is None:
            return self._execute(step)
        with self._watch:
            sampled = self._execute(step)
        if self._watch.num_kernels:
            emit(StepCompiled(self._watch.num_kernels, self._watch.duration_ns))
        return sampled

    def _execute(self, step: ScheduledStep) -> Sampled:
        logits = self.packed.forward(step)
        if not step.num_sampled:
            return Sampled(token_ids=np.empty(0, np.int32))
        with self._sampling:
            return self._sampler.sample(logits, step)

    def close(self) -> None:
        """Give back the store, the graphs, the packed weights, and the model if nobody else has it."""
        self._packed = None
        if self._linears is not None:
            self._linears.release()
