"""Settings: frozen, checked when they are made."""

from dataclasses import dataclass
from typing import Literal, get_args

from pagedkv.errors import ConfigError

__all__ = ["CacheConfig", "ForkMode", "PrefixKeys"]

ForkMode = Literal["lazy", "eager"]
PrefixKeys = Literal["tokens", "ids"]

_MAX_BLOCKS = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Settings of a `BlockManager`.

    Args:
        num_blocks: blocks in the pool.
        block_size: tokens in a block.
        prefix_caching: keep full blocks after their sequences end, and reuse them for equal prefixes.
        fork_mode: "lazy" copies a shared, partly filled block at the first write to it; "eager" copies it
            when the fork happens, so that no decode step pays for it.
        prefix_keys: what a full block is known by. "tokens" compares the tokens themselves. "ids" takes
            ready, prefix-chained block ids from the caller (`BlockManager.admit_keys`), as traces have
            them; equal ids are then taken to mean equal prefixes.

    Raises:
        ConfigError: a number that is not positive, or an unknown choice.
    """

    num_blocks: int
    block_size: int = 16
    prefix_caching: bool = True
    fork_mode: ForkMode = "lazy"
    prefix_keys: PrefixKeys = "tokens"

    def __post_init__(self) -> None:
        _require_positive("num_blocks", self.num_blocks)
        _require_positive("block_size", self.block_size)
        if not isinstance(self.prefix_caching, bool):
            raise ConfigError(f"prefix_caching is {self.prefix_caching!r}; it must be True or False")
        _require_choice("fork_mode", self.fork_mode, get_args(ForkMode))
        _require_choice("prefix_keys", self.prefix_keys, get_args(PrefixKeys))


def _require_positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is {value!r}; it must be an int from 1 to {_MAX_BLOCKS}")
    if not 0 < value <= _MAX_BLOCKS:
        raise ConfigError(f"{name} is {value}; it must be from 1 to {_MAX_BLOCKS}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
