"""SGLang's radix cache over its token and paged allocators, as its scheduler uses them."""

from array import array
from collections.abc import Sequence
from typing import Any

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.adapters import findings
from pytest_pagedkv.adapters.peer import Peer
from pytest_pagedkv.adapters.requests import Requests

__all__ = ["SGLangRadixAdapter"]

_MEM = "sglang.srt.mem_cache"
_PAGED = "alloc_paged_token_slots_decode alloc_paged_token_slots_extend"
_SGLANG = Peer(
    "sglang",
    {
        "torch": "float16 tensor",
        "sglang.srt.managers.schedule_batch": "Req",
        f"{_MEM}.allocation": f"alloc_token_slots {_PAGED}",
        f"{_MEM}.allocator": "PagedTokenToKVPoolAllocator TokenToKVPoolAllocator",
        f"{_MEM}.cache_init_params": "CacheInitParams",
        f"{_MEM}.common": "checkpoint_kv_cache release_kv_cache",
        f"{_MEM}.memory_pool": "ReqToTokenPool",
        f"{_MEM}.radix_cache": "RadixCache",
        "sglang.srt.runtime_context": "get_context",
        "sglang.srt.sampling.sampling_params": "SamplingParams",
    },
)


class SGLangRadixAdapter(KVCacheAdapter):
    """`RadixCache` and an allocator, with `Req`s, on the CPU; at most 256 sequences at once.

    Written against SGLang 0.5.23. The engine decides whether there is room, what hits and where tokens go;
    `Requests` says who answers misuse of ids; AssertionError becomes KeyError. The adapter locks a prefix and
    asks for room, in whole pages, as the scheduler does. There is no fork, no cut, and no reset while live.
    """

    features = Feature.PREFIX_CACHE | Feature.NAMESPACE
    unavailable = staticmethod(_SGLANG.unavailable)
    known_failures = findings.SGLANG

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.usable_blocks = num_blocks - 1  # page 0 takes the writes of padded tokens
        self._requests = Requests()
        if not (context := _SGLANG.get_context()).is_config_namespace_published("serving"):
            context.override_server_args().install()  # SGLang's own way to configure a test
        size = self.usable_blocks * block_size
        pool = (size,) if block_size == 1 else (size, block_size)
        kind = _SGLANG.TokenToKVPoolAllocator if block_size == 1 else _SGLANG.PagedTokenToKVPoolAllocator
        self.allocator = kind(*pool, _SGLANG.float16, "cpu", None, False)
        self.rows = _SGLANG.ReqToTokenPool(256, size, "cpu", False)
        self.tree = _SGLANG.RadixCache(_SGLANG.CacheInitParams(False, self.rows, self.allocator, block_size))

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:
        """Match, lock and allocate; then insert what was computed, as after a prefill."""
        self._requests.check_new(seq_id)
        tokens, sampling = array("q", token_ids), _SGLANG.SamplingParams(max_new_tokens=1 << 20)
        request = _SGLANG.Req(str(seq_id), "", tokens, sampling, extra_key=namespace or None)
        request.init_next_round_input(self.tree)
        request.lock = self.tree.lock(request.last_node)
        num_cached: int = request.prefix_len
        budget = self.allocator.create_prefill_budget(self.tree)
        if self._new_page_tokens(num_cached, len(tokens)) > budget.remaining_total:
            self.tree.unlock(request.lock)
            raise OutOfBlocks(f"remaining_total is too small for {len(tokens)} tokens")
        (row,) = self.rows.alloc([request])
        self.rows.write((row, slice(num_cached)), self.tree.prefix_device_indices(request))
        self._allocate(request, num_cached, len(tokens))
        _SGLANG.checkpoint_kv_cache(request, self.tree)
        self._requests[seq_id] = request
        return Placement(num_cached)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """If all fit, allocate token by token, as decode steps do; they are inserted on release."""
        request = self._requests[seq_id]
        length = request.kv.kv_committed_len
        room = self._new_page_tokens(length, length + len(token_ids))
        if not self.allocator.check_decode_capacity(num_tokens=room, tree_cache=self.tree):
            raise OutOfBlocks(f"check_decode_capacity finds no room for {room} tokens")
        for end, token_id in enumerate(token_ids, length + 1):
            request.output_ids.append(token_id)
            self._allocate(request, end - 1, end)
        return Placement()

    def release(self, seq_id: int) -> None:
        """Insert the output and free the rest."""
        try:
            _SGLANG.release_kv_cache(self._requests.end(seq_id), self.tree, checkpoint=True)
        except AssertionError as error:
            raise KeyError(seq_id) from error

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The page of every `block_size`-th token in the request's row."""
        kv = self._requests[seq_id].kv
        slots = self.rows.req_to_token[kv.req_pool_idx, : kv.kv_allocated_len : self.block_size]
        return [slot // self.block_size for slot in slots.tolist()]

    def num_free_blocks(self) -> int:
        """Free pages, and those of the tree that are not locked."""
        return int(self.allocator.available_size() + self.tree.evictable_size()) // self.block_size

    def _new_page_tokens(self, start: int, end: int) -> int:
        return (-(-end // self.block_size) - -(-start // self.block_size)) * self.block_size

    def _allocate(self, request: Any, start: int, end: int) -> None:
        row = self.rows.req_to_token[request.kv.req_pool_idx]
        last = row[start - 1 : start].long() if start else _SGLANG.tensor([-1])
        lengths = [_SGLANG.tensor([length]) for length in (start, start, end, end)]
        if self.block_size == 1:
            row[start:end] = _SGLANG.alloc_token_slots(self.tree, end - start)
        elif request.output_ids:
            row[start:end] = _SGLANG.alloc_paged_token_slots_decode(self.tree, *lengths[2:], last)
        else:
            row[start:end] = _SGLANG.alloc_paged_token_slots_extend(self.tree, *lengths, last, end - start)
        request.kv.kv_allocated_len = request.kv.kv_committed_len = request.extend_end = end
