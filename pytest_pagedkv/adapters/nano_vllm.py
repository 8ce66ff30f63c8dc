"""nano-vllm's block manager, as its scheduler uses it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.adapters import findings
from pytest_pagedkv.adapters.peer import Peer
from pytest_pagedkv.adapters.requests import Requests

__all__ = ["NanoVLLMAdapter", "NanoVLLMForkAdapter"]

_NANO = Peer(
    "nano-vllm",
    {"nanovllm.engine.block_manager": "BlockManager", "nanovllm.engine.sequence": "Sequence"},
    without_init=("nanovllm",),
)


class NanoVLLMAdapter(KVCacheAdapter):
    """`BlockManager`, in both of its forms: it registers blocks when it allocates them, or in `hash_blocks`.

    The first form was run, from a fork on PyPI (see below); the second is written after the project's
    source and was not run. The engine decides whether a prompt fits, what hits and which blocks are taken;
    `Requests` says who answers misuse of ids. Tokens are appended one by one, as in decode steps, after the
    adapter has compared the blocks that all of them need with the free ones, as `can_append` does for one.
    There is no fork, no cut, no namespace and no reset. nano-vllm configures blocks of 256 tokens; its
    manager takes any number above 1.
    """

    features = Feature.PREFIX_CACHE | Feature.REF_COUNTS
    block_sizes = (2, 3, 4)
    unavailable = staticmethod(_NANO.unavailable)

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.manager = _NANO.BlockManager(num_blocks, block_size)
        self._requests = Requests()

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:  # noqa: ARG002
        """Allocate, as for a waiting sequence."""
        self._requests.check_new(seq_id)
        sequence = _NANO.Sequence(list(token_ids))
        sequence.block_size = self.block_size
        fits = self.manager.can_allocate(sequence)
        if fits is False or fits == -1:
            raise OutOfBlocks(f"can_allocate: {fits} for {len(token_ids)} tokens")
        self.manager.allocate(sequence, *([] if isinstance(fits, bool) else [fits]))
        num_cached: int = sequence.num_cached_tokens
        self._computed(sequence, len(token_ids) - num_cached)
        self._requests[seq_id] = sequence
        return Placement(num_cached)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Append token by token, as decode steps do."""
        sequence = self._requests[seq_id]
        needed = -(-(len(sequence) + len(token_ids)) // self.block_size) - len(sequence.block_table)
        if needed > len(self.manager.free_block_ids):
            raise OutOfBlocks(f"{needed} blocks for {len(token_ids)} more tokens are not free")
        for token_id in token_ids:
            sequence.append_token(token_id)
            self.manager.may_append(sequence)
            self._computed(sequence, 1)
        return Placement()

    def release(self, seq_id: int) -> None:
        """Deallocate."""
        self.manager.deallocate(self._requests.end(seq_id))

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The sequence's own table."""
        table: Sequence[int] = self._requests[seq_id].block_table
        return table

    def num_free_blocks(self) -> int:
        """The free blocks, where cached ones wait too."""
        return len(self.manager.free_block_ids)

    def ref_counts(self) -> Mapping[int, int]:
        """Of every block."""
        return {block.block_id: block.ref_count for block in self.manager.blocks}

    def weaken_hash(self, num_bits: int) -> None:
        """Keep the low bits of each block's hash."""
        compute_hash = self.manager.compute_hash

        def weak(token_ids: list[int], prefix: int = -1) -> int:
            return int(compute_hash(token_ids, prefix)) & ((1 << num_bits) - 1)

        self.manager.compute_hash = weak

    def _computed(self, sequence: Any, num_tokens: int) -> None:
        if hasattr(self.manager, "hash_blocks"):
            sequence.num_scheduled_tokens = num_tokens
            self.manager.hash_blocks(sequence)
            sequence.num_cached_tokens += num_tokens


class NanoVLLMForkAdapter(NanoVLLMAdapter):
    """The same for the fork nano-vllm-fork 20260210, a wheel on PyPI, with what was found in it."""

    known_failures = findings.NANO_VLLM_FORK
