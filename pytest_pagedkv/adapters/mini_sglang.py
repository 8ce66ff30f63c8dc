"""mini-sglang's cache manager over its radix cache, as its scheduler uses them."""

from collections.abc import Sequence

from pytest_pagedkv.adapter import Feature, KVCacheAdapter, OutOfBlocks, Placement
from pytest_pagedkv.adapters.peer import Peer
from pytest_pagedkv.adapters.requests import Requests

__all__ = ["MiniSGLangAdapter"]

_MINI = Peer(
    "minisgl",
    {
        "torch": "cuda int32 tensor zeros",
        "minisgl.core": "Context Req SamplingParams",
        "minisgl": "core",
        "minisgl.scheduler.cache": "CacheManager",
        "minisgl.scheduler.utils": "PendingReq",
    },
    without_init=("minisgl.scheduler",),
)
_MAX_RUNNING = 256
_MAX_OUTPUT = 1 << 20


class MiniSGLangAdapter(KVCacheAdapter):
    """`CacheManager` with the radix cache, on a GPU; at most 256 sequences at once.

    Written after the project's source of 2026 and never run: there is no wheel, and the manager takes
    pinned memory, which needs a GPU. The engine decides what hits, what is evicted and which pages are
    taken; `Requests` says who answers misuse of ids. In the scheduler's place the adapter locks the prefix
    before it asks for room, in whole pages, and keeps the rows of the page table. There is no fork, no cut
    and no namespace; the engine's `reset` is not implemented.
    """

    features = Feature.PREFIX_CACHE

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        _MINI.core._GLOBAL_CTX = _MINI.Context(block_size)  # noqa: SLF001 - its setter allows one per process
        self._rows = list(range(_MAX_RUNNING))
        shape = (len(self._rows), num_blocks * block_size)
        self.page_table = _MINI.zeros(shape, dtype=_MINI.int32, device="cuda")
        self.manager = _MINI.CacheManager(num_blocks, block_size, self.page_table, "radix")
        self._requests = Requests()

    @classmethod
    def unavailable(cls) -> str:
        """Why mini-sglang's cache manager cannot be used."""
        return _MINI.unavailable() or ("" if _MINI.cuda.is_available() else "mini-sglang needs a GPU")

    def admit(self, seq_id: int, token_ids: Sequence[int], namespace: str = "") -> Placement:  # noqa: ARG002
        """Match, lock and allocate; then insert what was computed, as after a prefill."""
        self._requests.check_new(seq_id)
        tokens = _MINI.tensor(list(token_ids), dtype=_MINI.int32)
        sampling = _MINI.SamplingParams(max_tokens=_MAX_OUTPUT)
        handle = self.manager.match_req(_MINI.PendingReq(seq_id, tokens, sampling)).cuda_handle
        num_cached = int(handle.cached_len)
        self.manager.lock(handle)
        if not self._has_room(num_cached, len(token_ids)):
            self.manager.unlock(handle)
            raise OutOfBlocks(f"available_size is too small for {len(token_ids)} tokens")
        row = self._rows.pop()
        self.page_table[row, :num_cached] = handle.get_matched_indices()
        request = _MINI.Req(tokens, row, num_cached, _MAX_OUTPUT, seq_id, sampling, handle)
        self.manager.allocate_paged([request])
        request.complete_one()
        self.manager.cache_req(request, finished=False)
        self._requests[seq_id] = request
        return Placement(num_cached)

    def append(self, seq_id: int, token_ids: Sequence[int]) -> Placement:
        """Allocate for all tokens at once; they are inserted on release."""
        request = self._requests[seq_id]
        end = request.cached_len + len(token_ids)
        if not self._has_room(request.cached_len, end):
            raise OutOfBlocks(f"available_size is too small for {len(token_ids)} more tokens")
        request.append_host(_MINI.tensor(list(token_ids), dtype=_MINI.int32))
        request.device_len = end
        self.manager.allocate_paged([request])
        request.complete_one()
        return Placement()

    def release(self, seq_id: int) -> None:
        """Insert the output and free the rest."""
        if seq_id in self._requests:
            self._rows.append(self._requests[seq_id].table_idx)
        self.manager.cache_req(self._requests.end(seq_id), finished=True)

    def block_table(self, seq_id: int) -> Sequence[int]:
        """The page of every `block_size`-th token in the request's row."""
        request = self._requests[seq_id]
        slots = self.page_table[request.table_idx, : request.cached_len : self.block_size]
        return [slot // self.block_size for slot in slots.tolist()]

    def num_free_blocks(self) -> int:
        """Free pages, and those of the cache that are not locked."""
        return int(self.manager.available_size) // self.block_size

    def _has_room(self, start: int, end: int) -> bool:
        new_pages = -(-end // self.block_size) - -(-start // self.block_size)
        return new_pages <= self.num_free_blocks()
