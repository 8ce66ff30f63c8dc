"""From a model's name to the parts of an engine. torch is imported when it is called."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from os import PathLike
from secrets import randbits
from typing import TYPE_CHECKING, Any, NamedTuple

from pagedkv.block_manager import BlockManager
from pagedkv.clock import Clock, WallClock
from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.engine.executor import Executor
from pagedkv.engine.intake import ModelLimits
from pagedkv.errors import ConfigError
from pagedkv.offload.tiers import PageTiers
from pagedkv.sampling.detokenizer import Tokenizer
from pagedkv.scheduler import Scheduler

if TYPE_CHECKING:
    from pagedkv.kv_store import KVStore
    from pagedkv.models import LoadedModel, Ranks

__all__ = ["Parts", "load_parts"]

_BLOCK_SIZE = 16
_NOT_SHARED = (
    "offload is set and several processes share the model: pages come back at other times on each, and they "
    "have to take the same steps; leave offload out, or run one process"
)


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
    offload: OffloadConfig | None,
    dtype: Any,
    device: Any,
    revision: str,
    max_model_len: int | None,
    clock: Clock | None,
    seed: int | None,
    tensor_parallel_size: int | None,
    warm_up: bool,
) -> Parts:
    """Load a model, and make its cache, its scheduler and its executor. Arguments as `from_pretrained`'s.

    Raises:
        ConfigError: a setting that cannot work, or torch or transformers is missing.
        ModelError: the model cannot be loaded or served.
        PoolTooLarge: the memory of the blocks cannot be had.
    """
    _require_possible(offload, cache, tensor_parallel_size)
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
    clock = clock or WallClock()
    if ranks is not None:
        if offload is not None:
            raise ConfigError(_NOT_SHARED)
        return _shared_parts(loaded, settled, scheduling, clock, seed, ranks, warm_up)
    return _parts(loaded, settled, scheduling, offload, clock, seed, warm_up)


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
    offload: OffloadConfig | None,
    clock: Clock,
    seed: int | None,
    warm_up: bool,
) -> Parts:
    from pagedkv.models import TorchExecutor, make_kv_store

    store = make_kv_store(loaded.spec, num_blocks=cache.num_blocks, block_size=cache.block_size)
    blocks = BlockManager(cache) if offload is None else _tiered(cache, offload, clock, store)
    try:
        executor = TorchExecutor(
            loaded, blocks, store=store, max_batch=scheduling.max_running, warm_up=warm_up
        )
    except BaseException:
        if blocks.tiers is not None:
            blocks.tiers.close()
        raise
    return Parts(executor, Scheduler(blocks, scheduling, clock), loaded.tokenizer, _limits(loaded), seed)


def _tiered(cache: CacheConfig, offload: OffloadConfig, clock: Clock, store: "KVStore") -> BlockManager:
    """A block manager over real tiers."""
    from pagedkv.offload.storage import StorageMover

    mover = StorageMover.open(store, offload)
    try:
        return BlockManager(cache, partial(PageTiers, mover, offload, clock=clock))
    except BaseException:
        mover.close()
        raise


def _shared_parts(
    loaded: "LoadedModel",
    cache: CacheConfig,
    scheduling: SchedulerConfig,
    clock: Clock,
    seed: int | None,
    ranks: "Ranks",
    warm_up: bool,
) -> Parts:
    from pagedkv.models import SharedClock, SharedExecutor, SharedScheduler, TorchExecutor

    blocks = BlockManager(cache)
    with ranks.together("making the executor"):
        executor = TorchExecutor(
            loaded,
            blocks,
            max_batch=scheduling.max_running,
            cuda_graphs=False,
            pack_linear=False,
            warm_up=warm_up,
        )
    shared = SharedClock(clock, ranks)
    return Parts(
        SharedExecutor(executor, shared, ranks),
        SharedScheduler(blocks, scheduling, shared, ranks),
        loaded.tokenizer,
        _limits(loaded),
        ranks.object_of_first(randbits(63) if seed is None else seed),
    )


def _limits(loaded: "LoadedModel") -> ModelLimits:
    return ModelLimits(
        end_token_ids=loaded.end_token_ids,
        max_model_len=loaded.max_model_len,
        vocab_size=loaded.spec.vocab_size,
    )


def _require_possible(
    offload: OffloadConfig | None, cache: CacheConfig | None, tensor_parallel_size: int | None
) -> None:
    """Look before the minutes of loading."""
    if offload is not None:
        if not isinstance(offload, OffloadConfig):
            raise ConfigError(f"offload is {offload!r:.60}; it must be an OffloadConfig, or None")
        if (tensor_parallel_size or 1) > 1:
            raise ConfigError(_NOT_SHARED)
        if cache is not None and not cache.prefix_caching:
            raise ConfigError(
                "offload is set and prefix_caching is off: pages are known by the prefix that they hold, so "
                "switch it on, or leave offload out"
            )
        if offload.nvme_bytes and offload.nvme_path is None:
            raise ConfigError(
                f"nvme_bytes is {offload.nvme_bytes} and nvme_path is None: say which folder the file is for"
            )
    if cache is not None and cache.prefix_keys == "ids":
        raise ConfigError('prefix_keys is "ids", which is for traces; a model needs "tokens"')
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed, and models need "
            "both: pip install 'pagedkv[models]'"
        )
