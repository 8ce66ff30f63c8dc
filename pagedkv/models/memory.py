"""How many blocks fit: the memory of a pool is known before it is asked for."""

from pagedkv.device_memory import available_memory
from pagedkv.errors import ConfigError, PoolTooLarge
from pagedkv.kv_store import KVStore
from pagedkv.models.spec import ModelSpec

__all__ = ["default_num_blocks", "fit_num_blocks", "make_kv_store", "require_memory"]

_GPU_SHARE = 0.9
_CPU_SHARE = 0.25


def fit_num_blocks(spec: ModelSpec, block_size: int, memory: int) -> int:
    """Blocks that fit into so much memory.

    Args:
        spec: the model.
        block_size: tokens in a block.
        memory: bytes.
    """
    return max(0, memory) // (block_size * spec.token_bytes)


def default_num_blocks(spec: ModelSpec, block_size: int, *, max_model_len: int, max_sequences: int) -> int:
    """Blocks of a pool when nobody asks for a number.

    It is what 90 % of a GPU's free memory holds, or 25 % of a CPU's, which others use too; and no more than
    so many sequences of the longest length could fill.

    Args:
        spec: the model, loaded.
        block_size: tokens in a block.
        max_model_len: tokens of a sequence at most.
        max_sequences: sequences that run at once at most.

    Raises:
        PoolTooLarge: not even one sequence of the longest length fits.
        ConfigError: nobody knows how much memory there is.
    """
    memory = available_memory(spec.device)
    if memory is None:
        raise ConfigError(f"how much memory {spec.device} has is not known; say how many blocks to use")
    share = _GPU_SHARE if spec.device.type == "cuda" else _CPU_SHARE
    fitting = fit_num_blocks(spec, block_size, int(memory * share))
    needed = -(-max_model_len // block_size)
    if fitting < needed:
        raise PoolTooLarge(
            needed,
            fitting,
            f"a sequence of {max_model_len} tokens takes {needed} blocks, and {fitting} fit into {share:.0%} "
            f"of the {memory / 2**30:.2f} GiB that {spec.device} has left: lower max_model_len",
        )
    return min(fitting, needed * max_sequences)


def require_memory(spec: ModelSpec, *, num_blocks: int, block_size: int) -> None:
    """Look whether a pool may fit, before anything is made that grows with it.

    Raises:
        PoolTooLarge: it does not; says how many blocks would.
    """
    memory = available_memory(spec.device)
    if memory is not None and num_blocks * block_size * spec.token_bytes > memory:
        raise _too_large(spec, num_blocks, block_size, memory)


def make_kv_store(spec: ModelSpec, *, num_blocks: int, block_size: int) -> KVStore:
    """The memory of a pool, where the model is.

    Raises:
        PoolTooLarge: it cannot be had; says how many blocks would fit. Nothing is allocated.
    """
    require_memory(spec, num_blocks=num_blocks, block_size=block_size)
    try:
        return KVStore(
            num_layers=spec.num_layers,
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            dtype=spec.dtype,
            device=spec.device,
        )
    except ConfigError as error:
        if error.__cause__ is None:  # a setting, not the allocation
            raise
        raise _too_large(spec, num_blocks, block_size, available_memory(spec.device)) from error


def _too_large(spec: ModelSpec, num_blocks: int, block_size: int, memory: int | None) -> PoolTooLarge:
    wanted = num_blocks * block_size * spec.token_bytes
    asked = f"{num_blocks} blocks of {block_size} tokens take {wanted / 2**30:.2f} GiB"
    if memory is None:
        return PoolTooLarge(
            num_blocks, 0, f"{asked}; how much {spec.device} has is not known, and it refused: use fewer"
        )
    fitting = min(fit_num_blocks(spec, block_size, memory), num_blocks - 1)
    left = f"{spec.device} has {memory / 2**30:.2f} GiB left"
    return PoolTooLarge(num_blocks, fitting, f"{asked}, and {left}: {fitting} blocks would fit")
