"""What runs the steps of a scheduler on a model."""

import numpy as np

from pagedkv.block_manager import BlockManager
from pagedkv.models.memory import make_kv_store
from pagedkv.models.packed import PackedModel
from pagedkv.models.spec import LoadedModel
from pagedkv.sampling.sampled import Sampled
from pagedkv.sampling.sampler import Sampler
from pagedkv.scheduler.step import ScheduledStep

__all__ = ["TorchExecutor"]


class TorchExecutor:
    """Runs steps: copies, KV, attention, sampling.

    Args:
        loaded: the model.
        cache: the bookkeeping of its blocks; the store gets as many.

    Attributes:
        packed: the model over its store.

    Raises:
        PoolTooLarge: the memory of the blocks cannot be had; says how many would fit.
    """

    def __init__(self, loaded: LoadedModel, cache: BlockManager) -> None:
        config = cache.config
        store = make_kv_store(loaded.spec, num_blocks=config.num_blocks, block_size=config.block_size)
        self.packed = PackedModel(loaded, cache, store)
        self._sampler = Sampler()

    def execute(self, step: ScheduledStep) -> Sampled:
        """Compute a step, and sample behind it."""
        logits = self.packed.forward(step)
        if not step.num_sampled:
            return Sampled(token_ids=np.empty(0, np.int32))
        return self._sampler.sample(logits, step)

    def close(self) -> None:
        """Give back what it holds of the device."""
