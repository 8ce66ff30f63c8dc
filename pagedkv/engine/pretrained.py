"""From a model's name to the parts of an engine. torch is imported when it is called."""

from importlib.util import find_spec
from os import PathLike
from typing import Any, NamedTuple

from pagedkv.block_manager import BlockManager
from pagedkv.clock import Clock, WallClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine.executor import Executor
from pagedkv.engine.intake import ModelLimits
from pagedkv.errors import ConfigError
from pagedkv.sampling.detokenizer import Tokenizer
from pagedkv.scheduler import Scheduler

__all__ = ["Parts", "load_parts"]

_BLOCK_SIZE = 16


class Parts(NamedTuple):
    """What an engine is made of."""

    executor: Executor
    scheduler: Scheduler
    tokenizer: Tokenizer | None
    limits: ModelLimits


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
) -> Parts:
    """Load a model, and make its cache, its scheduler and its executor. Arguments as `from_pretrained`'s.

    Raises:
        ConfigError: a setting that cannot work, or torch or transformers is missing.
        ModelError: the model cannot be loaded or served.
        PoolTooLarge: the memory of the blocks cannot be had.
    """
    _require_possible(offload, cache)
    from pagedkv.models import TorchExecutor, default_num_blocks, load_model, require_memory

    loaded = load_model(
        path_or_name, dtype=dtype, device=device, revision=revision, max_model_len=max_model_len
    )
    scheduling = scheduler or SchedulerConfig()
    if cache is None:
        num_blocks = default_num_blocks(
            loaded.spec,
            _BLOCK_SIZE,
            max_model_len=loaded.max_model_len,
            max_sequences=scheduling.max_running,
        )
        cache = CacheConfig(num_blocks=num_blocks, block_size=_BLOCK_SIZE)
    require_memory(loaded.spec, num_blocks=cache.num_blocks, block_size=cache.block_size)
    blocks = BlockManager(cache)
    limits = ModelLimits(
        end_token_ids=loaded.end_token_ids,
        max_model_len=loaded.max_model_len,
        vocab_size=loaded.spec.vocab_size,
    )
    executor = TorchExecutor(loaded, blocks)
    return Parts(executor, Scheduler(blocks, scheduling, clock or WallClock()), loaded.tokenizer, limits)


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
