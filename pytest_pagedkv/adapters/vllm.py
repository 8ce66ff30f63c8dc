"""vLLM's KV cache manager, as its scheduler uses it."""

from collections.abc import Mapping, Sequence

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.adapters import findings
from pytest_pagedkv.adapters.peer import Peer
from pytest_pagedkv.adapters.requests import Requests

__all__ = ["VLLMAdapter"]

_VLLM = Peer(
    "vllm",
    {
        "torch": "float16",
        "vllm.sampling_params": "SamplingParams",
        "vllm.utils.hashing": "sha256",
        "vllm.v1.core.kv_cache_manager": "KVCacheManager",
        "vllm.v1.core.kv_cache_utils": "get_request_block_hasher init_none_hash",
        "vllm.v1.kv_cache_interface": "FullAttentionSpec KVCacheConfig KVCacheGroupSpec",
        "vllm.v1.request": "Request RequestStatus",
    },
)
_MAX_MODEL_LEN = 1 << 20


class VLLMAdapter(KVCacheAdapter):
    """`KVCacheManager` with prefix caching, for one group of full-attention layers, on the CPU.

    Written against vLLM 0.33. The engine decides whether there is room, what hits and which blocks are taken;
    `Requests` says who answers misuse of ids. There is no fork and no cut. `reset_prefix_cache` is left out:
    vLLM refuses it while a request holds a block, where the contract's sequences go on.
    """

    features = Feature.PREFIX_CACHE | Feature.NAMESPACE | Feature.REF_COUNTS
    unavailable = staticmethod(_VLLM.unavailable)
    known_failures = findings.VLLM

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.usable_blocks = num_blocks - 1  # block 0 is the null block
        _VLLM.init_none_hash(_VLLM.sha256)
        self._hash_blocks = _VLLM.get_request_block_hasher(block_size, _VLLM.sha256)
        self._requests = Requests()
        layers = _VLLM.FullAttentionSpec(
            block_size=block_size, num_kv_heads=1, head_size=8, dtype=_VLLM.float16
        )
        self.manager = _VLLM.KVCacheManager(
            _VLLM.KVCacheConfig(num_blocks, [], [_VLLM.KVCacheGroupSpec(["layer"], layers)]),
            max_model_len=_MAX_MODEL_LEN,
            scheduler_block_size=block_size,
            hash_block_size=block_size,
        )

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Look up and allocate, as for a waiting request whose prompt fits one step."""
        self._requests.check_new(seq_id)
        request = _VLLM.Request(
            request_id=str(seq_id),
            prompt_token_ids=list(token_ids),
            sampling_params=_VLLM.SamplingParams(max_tokens=_MAX_MODEL_LEN),
            pooling_params=None,
            cache_salt=namespace or None,
            block_hasher=self._hash_blocks,
        )
        blocks, num_cached, _ = self.manager.get_computed_blocks(request)
        if self.manager.allocate_slots(request, len(token_ids) - num_cached, num_cached, blocks) is None:
            raise OutOfBlocks(f"allocate_slots has no room for {len(token_ids)} tokens")
        request.num_computed_tokens = len(token_ids)
        request.status = _VLLM.RequestStatus.RUNNING
        self._requests[seq_id] = request
        return Placement(num_cached)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Allocate first and add the tokens then, as for draft tokens that are all accepted."""
        request = self._requests[seq_id]
        if self.manager.allocate_slots(request, len(token_ids)) is None:
            raise OutOfBlocks(f"allocate_slots has no room for {len(token_ids)} more tokens")
        request.append_output_token_ids(list(token_ids))
        request.num_computed_tokens = request.num_tokens
        self.manager.cache_blocks(request, request.num_tokens)
        return Placement()

    def release(self, seq_id: int) -> None:
        """Free the request's blocks."""
        self.manager.free(self._requests.end(seq_id))

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The block ids of the one group."""
        table: Sequence[int] = self.manager.get_block_ids(self._requests[seq_id].request_id)[0]
        return table

    def num_free_blocks(self) -> int:
        """The free queue, where cached blocks wait too."""
        return int(self.manager.block_pool.get_num_free_blocks())

    def ref_counts(self) -> Mapping[int, int]:
        """Of every block but the null block, whose count vLLM does not keep."""
        blocks = self.manager.block_pool.blocks
        return {block.block_id: block.ref_cnt for block in blocks if not block.is_null}

    def weaken_hash(self, num_bits: int) -> None:
        """Keep the low bits of each block's hash."""
        mask = (1 << num_bits) - 1

        def weak(value: object) -> bytes:
            return (int.from_bytes(_VLLM.sha256(value), "little") & mask).to_bytes(32, "little")

        self._hash_blocks = _VLLM.get_request_block_hasher(self.block_size, weak)
