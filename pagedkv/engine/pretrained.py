"""From a model's name to the parts of an engine. torch is imported when it is called."""

from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from os import PathLike
from secrets import randbits
from typing import TYPE_CHECKING, Any, NamedTuple

from pagedkv.block_manager import BlockManager
from pagedkv.clock import Clock, WallClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine.executor import Executor
from pagedkv.engine.intake import ModelLimits
from pagedkv.errors import ConfigError
from pagedkv.sampling.detokenizer import Tokenizer
from pagedkv.scheduler import Scheduler

if TYPE_CHECKING:
    from pagedkv.models import LoadedModel, Ranks

__all__ = ["Parts", "load_parts"]

_BLOCK_SIZE = 16


class Parts(NamedTuple):
    """What an engine is made of."""

    executor: Executor
    scheduler: Scheduler
    tokenizer: Tokenizer | None
    limits: ModelLimits
    seed: int | None


def load_parts(
    path_or_name: str | PathLike[str],
    *,
    cache: CacheConfig | None,
    scheduler: SchedulerConfig | None,
    offload: object,
    dtype: Any,
    device: Any,
    revision: str,
    max_model_len: int | None,
    clock: Clock | None,
    seed: int | None,
    tensor_parallel_size: int | None,
) -> Parts:
    """Load a model, and make its cache, its scheduler and its executor. Arguments as `from_pretrained`'s.

    Raises:
        ConfigError: a setting that cannot work, or torch or transformers is missing.
        ModelError: the model cannot be loaded or served.
        PoolTooLarge: the memory of the blocks cannot be had.
    """
    _require_possible(offload, cache)
    from pagedkv.models import Ranks, load_model

    ranks = Ranks.start(tensor_parallel_size, device)
    loaded = load_model(
        path_or_name,
        dtype=dtype,
        device=device,
        revision=revision,
        max_model_len=max_model_len,
        ranks=ranks,
    )
    scheduling = scheduler or SchedulerConfig()
    settled = _settled_cache(cache, loaded, scheduling, ranks)
    return _parts(loaded, settled, scheduling, clock or WallClock(), seed, ranks)


def _settled_cache(
    cache: CacheConfig | None, loaded: "LoadedModel", scheduling: SchedulerConfig, ranks: "Ranks | None"
) -> CacheConfig:
    """Settings of a cache for which there is memory, the same on all ranks."""
    from pagedkv.models import default_num_blocks, require_memory

    with nullcontext() if ranks is None else ranks.together("making room for the blocks"):
        settled = cache or CacheConfig(
            num_blocks=default_num_blocks(
                loaded.spec,
                _BLOCK_SIZE,
                max_model_len=loaded.max_model_len,
                max_sequences=scheduling.max_running,
            ),
            block_size=_BLOCK_SIZE,
        )
        require_memory(loaded.spec, num_blocks=settled.num_blocks, block_size=settled.block_size)
    if cache is not None or ranks is None:
        return settled
    return replace(
        settled, num_blocks=min(number for (number,) in ranks.every("count the blocks", settled.num_blocks))
    )


def _parts(
    loaded: "LoadedModel",
    cache: CacheConfig,
    scheduling: SchedulerConfig,
    clock: Clock,
    seed: int | None,
    ranks: "Ranks | None",
) -> Parts:
    from pagedkv.models import SharedClock, SharedExecutor, SharedScheduler, TorchExecutor

    limits = ModelLimits(
        end_token_ids=loaded.end_token_ids,
        max_model_len=loaded.max_model_len,
        vocab_size=loaded.spec.vocab_size,
    )
    blocks = BlockManager(cache)
    if ranks is None:
        executor = TorchExecutor(loaded, blocks, max_batch=scheduling.max_running)
        return Parts(executor, Scheduler(blocks, scheduling, clock), loaded.tokenizer, limits, seed)
    with ranks.together("making the executor"):
        executor = TorchExecutor(
            loaded, blocks, max_batch=scheduling.max_running, cuda_graphs=False, pack_linear=False
        )
    shared = SharedClock(clock, ranks)
    return Parts(
        SharedExecutor(executor, shared, ranks),
        SharedScheduler(blocks, scheduling, shared, ranks),
        loaded.tokenizer,
        limits,
        ranks.object_of_first(randbits(63) if seed is None else seed),
    )


def _require_possible(offload: object, cache: CacheConfig | None) -> None:
    """Look before the minutes of loading."""
    if offload is not None:
        raise ConfigError(f"offload is {offload!r:.60}; moving blocks to other memory is not there yet: None")
    if cache is not None and cache.prefix_keys == "ids":
        raise ConfigError('prefix_keys is "ids", which is for traces; a model needs "tokens"')
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed, and models need "
            "both: pip install 'pagedkv[models]'"
        )
