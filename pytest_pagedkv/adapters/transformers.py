"""The cache of Hugging Face transformers' continuous batching."""

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.adapters import findings
from pytest_pagedkv.adapters.peer import Peer
from pytest_pagedkv.adapters.requests import Requests

__all__ = ["TransformersAdapter"]

_PACKAGE = "transformers.generation.continuous_batching"
_HF = Peer(
    "transformers",
    {
        "torch": "float16",
        "transformers": "ContinuousBatchingConfig LlamaConfig",
        f"{_PACKAGE}.cache": "PagedAttentionCache",
        f"{_PACKAGE}.cache_allocators": "FULL_ATTENTION CachePool",
        f"{_PACKAGE}.distributed": "DistributedHelper",
        f"{_PACKAGE}.requests": "RequestState",
    },
)


class TransformersAdapter(KVCacheAdapter):
    """`PagedAttentionCache` with block sharing, for one layer of full attention, on the CPU.

    Written against transformers 5.23. The engine decides whether there is room, what hits, which blocks are
    taken and what a fork copies; `Requests` says who answers misuse of ids. In the scheduler's place the
    adapter evicts the cached blocks when there is no room, and asks again. Block ids are given less those
    that padding uses. There is no cut and no namespace. `reset` is left out: it frees every request.
    """

    features = Feature.PREFIX_CACHE | Feature.FORK | Feature.REF_COUNTS
    unavailable = staticmethod(_HF.unavailable)
    known_failures = findings.TRANSFORMERS

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        model = _HF.LlamaConfig(num_hidden_layers=1, hidden_size=32, num_attention_heads=1, vocab_size=32)
        model._attn_implementation = "flash_attention_2"  # noqa: SLF001 - no memory is set aside for masks then
        limits = _HF.ContinuousBatchingConfig(
            num_blocks=num_blocks, page_size=block_size, max_batch_tokens=1, max_memory_percent=0.9
        )
        alone = _HF.DistributedHelper(None, None)
        with patch(f"{_PACKAGE}.cache.get_device_and_memory_breakdown", return_value=("cpu", 1 << 40, 0, 0)):
            self.cache = _HF.PagedAttentionCache(model, limits, "cpu", alone, _HF.float16)
        self.allocator = self.cache.cache_allocators[_HF.FULL_ATTENTION]
        self._reserved = self.cache.pool.num_reserved_sectors * self.allocator.blocks_per_sector
        self._requests = Requests()

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:  # noqa: ARG002
        """Match a prefix and store the rest; if it does not fit, give the prefix up."""
        self._requests.check_new(seq_id)
        state = _HF.RequestState(str(seq_id), list(token_ids))
        num_cached = state.position_offset = self.cache.search_prefix_match(str(seq_id), state.initial_tokens)
        try:
            self._store(state, len(token_ids) - num_cached)
        except OutOfBlocks:
            self.cache.free_blocks(str(seq_id))
            raise
        self._requests[seq_id] = state
        return Placement(num_cached)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Store more tokens."""
        self._store(self._requests[seq_id], len(token_ids), token_ids)
        return Placement()

    def fork(self, parent_id: int, child_id: int) -> Placement:
        """Share full blocks, and copy a partial one."""
        self._requests.check_new(child_id)
        parent = self._requests[parent_id]
        sources, targets = copies = ([], [])  # type: tuple[list[int], list[int]]
        if not self.cache.prepare_fork_request(parent, [str(child_id)], {_HF.FULL_ATTENTION: copies}):
            raise OutOfBlocks("prepare_fork_request forked nothing")
        self._requests[child_id] = parent.fork(str(child_id))
        return Placement(
            parent.current_len(), list(zip(self._shown(sources), self._shown(targets), strict=True))
        )

    def release(self, seq_id: int) -> None:
        """Free the request's blocks."""
        self.cache.free_blocks(self._requests.end(seq_id).request_id)

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The allocator's table."""
        return self._shown(self.allocator.block_table[self._requests[seq_id].request_id])

    def num_free_blocks(self) -> int:
        """Blocks in free sectors, free blocks in others, and cached blocks."""
        pool, cached = self.cache.pool, self.allocator.ledger.cached_blocks
        in_sectors = pool.num_free_sectors * self.allocator.blocks_per_sector
        return int(in_sectors + pool.count_free_blocks(self.allocator.index) + len(cached))

    def ref_counts(self) -> Mapping[int, int]:
        """The ledger's count of every block in a table; 1 where it keeps none."""
        counts = self.allocator.ledger.shared_ref_counts
        blocks = set(counts).union(*self.allocator.block_table.values())
        return {block - self._reserved: counts.get(block, 1) for block in blocks}

    def _store(self, state: Any, num_tokens: int, generated: Sequence[int] = ()) -> None:
        store = self.cache.can_store_request_tokens
        if not store(state, num_tokens) and not (
            self.cache.evict_cached_blocks() and store(state, num_tokens)
        ):
            raise OutOfBlocks(f"can_store_request_tokens has no room for {num_tokens} more tokens")
        state.generated_tokens.extend(generated)
        complete = self.cache.count_new_complete_blocks(state, num_tokens)
        state.position_offset += num_tokens
        self.cache.mark_complete_blocks(state, complete)

    def _shown(self, blocks: Sequence[int]) -> list[int]:
        return [block - self._reserved for block in blocks]
