"""What is timed of vLLM: its `BlockPool` and `KVCacheManager`, unpatched, on the CPU.

Each class does what vLLM's scheduler does for the operation that `tests.measure.ours` has under the same
name. Import this only where vLLM is installed.
"""

import os
from itertools import count

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # vLLM reads it when it is imported

import torch
import vllm
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request, RequestStatus

from tests.measure.prompts import (
    BLOCK_SIZE,
    NUM_BLOCKS,
    PROMPT_TOKENS,
    Int32s,
    Prompts,
    decode_prompts,
    warm_prompts,
)
from tests.measure.race import Work

__all__ = [
    "VERSION",
    "AllocateFree",
    "ColdAdmit",
    "DecodeSteps",
    "Readmit",
    "WarmLookup",
    "block_pool",
    "cache_manager",
]

VERSION: str = vllm.__version__

_NUM_PER_ROUND = 16
_MAX_MODEL_LEN = 32_768

init_none_hash(sha256)
_hash_blocks = get_request_block_hasher(BLOCK_SIZE, sha256)
_request_ids = count()
_sampling = SamplingParams(max_tokens=_MAX_MODEL_LEN)


def block_pool(*, caching: bool) -> BlockPool:
    """A pool of vLLM's."""
    return BlockPool(NUM_BLOCKS, caching, BLOCK_SIZE)


def cache_manager(*, caching: bool = True) -> KVCacheManager:
    """A manager of vLLM's, for one group of full-attention layers."""
    spec = FullAttentionSpec(block_size=BLOCK_SIZE, num_kv_heads=8, head_size=128, dtype=torch.bfloat16)
    config = KVCacheConfig(
        num_blocks=NUM_BLOCKS, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
    )
    return KVCacheManager(
        config,
        max_model_len=_MAX_MODEL_LEN,
        scheduler_block_size=BLOCK_SIZE,
        hash_block_size=BLOCK_SIZE,
        enable_caching=caching,
    )


def new_request(prompt: Int32s, *, caching: bool = True) -> Request:
    """A request with its prompt's block hashes ready."""
    return Request(
        request_id=str(next(_request_ids)),
        prompt_token_ids=prompt.tolist(),
        sampling_params=_sampling,
        pooling_params=None,
        block_hasher=_hash_blocks if caching else None,
    )


def schedule(manager: KVCacheManager, request: Request) -> None:
    """What the scheduler asks of the manager to start a request whose prompt fits one step."""
    blocks, num_cached, _ = manager.get_computed_blocks(request)
    if manager.allocate_slots(request, request.num_tokens - num_cached, num_cached, blocks) is None:
        raise RuntimeError("vLLM is out of blocks: the comparison would be void")


class AllocateFree(Work):
    """`get_new_blocks(n)`, then `free_blocks` of the same blocks."""

    def __init__(self, n: int, *, caching: bool) -> None:
        self._pool = block_pool(caching=caching)
        self._n = n
        self.num_ops = -(-NUM_BLOCKS // n)

    def run(self) -> None:
        """Allocate and free, over and over."""
        allocate, free, n = self._pool.get_new_blocks, self._pool.free_blocks, self._n
        for _ in range(self.num_ops):
            free(allocate(n))


class DecodeSteps(Work):
    """`allocate_slots(request, 1)` and the sampled token of each running request, for two blocks of steps."""

    num_ops = 2 * BLOCK_SIZE

    def __init__(self, *, caching: bool) -> None:
        self._manager = cache_manager(caching=caching)
        self._requests = [new_request(prompt, caching=caching) for prompt in decode_prompts()]
        self._source = Prompts(seed=3)
        self._steps: list[list[int]] = []
        for request, token in zip(
            self._requests, self._source.one(len(self._requests)).tolist(), strict=True
        ):
            schedule(self._manager, request)
            request.status = RequestStatus.RUNNING
            request.num_computed_tokens = request.num_tokens
            request.append_output_token_ids(token)

    def prepare(self) -> None:
        """Sample the tokens of the steps."""
        sampled = self._source.many(self.num_ops, len(self._requests))
        self._steps = [tokens.tolist() for tokens in sampled]

    def run(self) -> None:
        """Book the steps."""
        manager, requests = self._manager, self._requests
        allocate_slots = manager.allocate_slots
        for tokens in self._steps:
            manager.new_step_starts()
            for request, token in zip(requests, tokens, strict=True):
                allocate_slots(request, 1)
                request.num_computed_tokens += 1
                request.append_output_token_ids(token)
            manager.take_new_block_ids()

    def finish(self) -> None:
        """Check that every request got its blocks."""
        for request in self._requests:
            num_blocks = len(self._manager.get_block_ids(request.request_id)[0])
            if num_blocks != -(-request.num_computed_tokens // BLOCK_SIZE):
                raise RuntimeError("vLLM is out of blocks: the comparison would be void")


class WarmLookup(Work):
    """The block hashes of a cached prompt, and `get_computed_blocks`; not the making of the `Request`."""

    num_ops = _NUM_PER_ROUND

    def __init__(self, *, divided: bool = False) -> None:
        self._manager = cache_manager()
        requests = [new_request(prompt) for prompt in warm_prompts(divided=divided)]
        for request in requests:
            schedule(self._manager, request)
            self._manager.free(request)
        self._request = requests[0]
        _require_found(self._manager, requests[:1])

    def run(self) -> None:
        """Hash the prompt and look it up."""
        request, get_computed_blocks = self._request, self._manager.get_computed_blocks
        for _ in range(self.num_ops):
            request.block_hashes = []
            request.update_block_hashes()
            get_computed_blocks(request)


class _Schedule(Work):
    """Schedules and frees the requests in `_requests`."""

    num_ops = _NUM_PER_ROUND

    def __init__(self, source: Prompts) -> None:
        self._manager = cache_manager()
        self._source = source
        self._requests: list[Request] = []

    def run(self) -> None:
        """Schedule and free each."""
        manager = self._manager
        for request in self._requests:
            schedule(manager, request)
            manager.free(request)

    def finish(self) -> None:
        """Drain what the scheduler drains once a step."""
        self._manager.take_new_block_ids()

    def _make_requests(self) -> None:
        self._requests = [new_request(prompt) for prompt in self._source.many(self.num_ops)]


class ColdAdmit(_Schedule):
    """Look-up, `allocate_slots` and `free` of prompts that were never seen; their hashes are ready."""

    def __init__(self, *, evicting: bool) -> None:
        super().__init__(Prompts(seed=4))
        self._evicting = evicting
        for _ in range(NUM_BLOCKS // (PROMPT_TOKENS // BLOCK_SIZE) if evicting else 0):
            request = new_request(self._source.one())
            schedule(self._manager, request)
            self._manager.free(request)

    def prepare(self) -> None:
        """Make new requests; and room for them, unless they are to evict."""
        if not self._evicting:
            self._manager.reset_prefix_cache()
        self._make_requests()


class Readmit(_Schedule):
    """Look-up, `allocate_slots` and `free` of prompts that are cached and idle.

    Args:
        hashing: compute the prompts' block hashes too, as for a request that has just arrived.
    """

    def __init__(self, *, hashing: bool) -> None:
        super().__init__(Prompts(seed=5))
        self._hashing = hashing
        self._make_requests()
        super().run()
        _require_found(self._manager, self._requests)

    def run(self) -> None:
        """Schedule and free each."""
        if self._hashing:
            for request in self._requests:
                request.block_hashes = []
                request.update_block_hashes()
        super().run()


def _require_found(manager: KVCacheManager, requests: list[Request]) -> None:
    for request in requests:
        if manager.get_computed_blocks(request)[1] != PROMPT_TOKENS - BLOCK_SIZE:
            raise RuntimeError("vLLM did not find a cached prompt: the comparison would be void")
