"""pagedkv's own cache."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from pagedkv import BlockManager, CacheConfig, block_manager, errors
from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement

__all__ = ["EagerForkAdapter", "PagedKVAdapter", "UncachedAdapter"]


def _ask(call: Callable[..., block_manager.Placement], *arguments: object) -> Placement:
    """Call the cache and translate its answer."""
    try:
        told = call(*arguments)
    except errors.OutOfBlocks as error:
        raise OutOfBlocks(str(error)) from error
    return Placement(told.num_cached_tokens, told.copies)


class PagedKVAdapter(KVCacheAdapter):
    """`BlockManager` with a prefix cache, forks that copy when they are written."""

    features = (
        Feature.PREFIX_CACHE
        | Feature.FORK
        | Feature.TRUNCATE
        | Feature.NAMESPACE
        | Feature.REF_COUNTS
        | Feature.RESET
    )
    fork_mode: ClassVar[Literal["lazy", "eager"]] = "lazy"
    prefix_caching = True

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.cache = BlockManager(
            CacheConfig(
                num_blocks=num_blocks,
                block_size=block_size,
                prefix_caching=self.prefix_caching,
                fork_mode=self.fork_mode,
            )
        )

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Admit; our errors for misuse are KeyError and ValueError already."""
        return _ask(self.cache.admit, seq_id, token_ids, namespace)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Append."""
        return _ask(self.cache.append, seq_id, token_ids)

    def fork(self, parent_id: int, child_id: int) -> Placement:
        """Fork."""
        return _ask(self.cache.fork, parent_id, child_id)

    def truncate(self, seq_id: int, num_tokens: int) -> Placement:
        """Truncate."""
        return _ask(self.cache.truncate, seq_id, num_tokens)

    def release(self, seq_id: int) -> None:
        """Release."""
        self.cache.release(seq_id)

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The blocks, as ints."""
        blocks: list[int] = self.cache.block_table(seq_id).tolist()
        return blocks

    def num_free_blocks(self) -> int:
        """Blank and evictable blocks."""
        return self.cache.pool.num_free

    def ref_counts(self) -> Mapping[int, int]:
        """Of every block, idle ones at 0."""
        return dict(enumerate(self.cache.pool.ref_counts().tolist()))

    def reset_prefix_cache(self) -> None:
        """Forget every prefix."""
        self.cache.reset_prefix_cache()


class EagerForkAdapter(PagedKVAdapter):
    """Forks that copy at once."""

    fork_mode = "eager"


class UncachedAdapter(PagedKVAdapter):
    """No prefix cache."""

    features = Feature.FORK | Feature.TRUNCATE | Feature.NAMESPACE | Feature.REF_COUNTS
    prefix_caching = False
