"""Several samples of each prompt: what sharing the prompt's blocks saves, and what copy-on-write costs."""

from dataclasses import dataclass

import numpy as np

from pagedkv.block_manager import BlockManager
from pagedkv.config import CacheConfig, ForkMode
from pagedkv.errors import ConfigError, OutOfBlocks
from pagedkv.replay.result import (
    Progress,
    ReplayResult,
    affordable,
    block_size_for,
    pool_size,
    ratio,
    tracked,
)
from pagedkv.traces import Trace, TraceRequest

__all__ = ["ForkResult", "replay_fork"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkResult(ReplayResult):
    """Result of `replay_fork`: sums over the requests that have a prompt and were not rejected.

    Attributes:
        blocks_without_sharing: blocks that the samples hold at their ends, each with its own prompt.
        blocks_with_sharing: blocks that they hold when they share the prompt's full blocks.
        cow_copies: blocks copied because a sample wrote to one that others still read.
        requests: all requests of the trace.
        rejected: requests that need more blocks than the pool has even when they share.
    """

    blocks_without_sharing: int
    blocks_with_sharing: int
    cow_copies: int
    requests: int
    rejected: int

    def ratios(self) -> dict[str, float]:
        """`saving`: the share of the blocks that sharing saves."""
        saved = self.blocks_without_sharing - self.blocks_with_sharing
        return {"saving": ratio(saved, self.blocks_without_sharing)}


def replay_fork(
    trace: Trace,
    num_samples: int,
    num_blocks: int | None = None,
    *,
    block_size: int | None = None,
    progress: Progress | None = None,
) -> ForkResult:
    """Sample every request that has a prompt `num_samples` times to the same length, shared and not.

    Args:
        trace: only its lengths matter.
        num_samples: samples of each prompt.
        num_blocks: size of the pool for the samples that share; None for as many as are ever needed.
        block_size: tokens in a block; by default that of the trace's ids, or 16.
        progress: told how far it is.

    Raises:
        ConfigError: `num_samples` is no positive int, or so large that the samples need too many blocks, or
            a size is not one that a pool can have.
    """
    if type(num_samples) is not int or num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples!r}; it must be an int of at least 1")
    size = block_size_for(trace, block_size)
    requests = [request for request in trace.requests if request.num_prompt_tokens]
    samples = _Samples(requests, num_samples, size, num_blocks)
    measured = [samples.measure(request) for request in tracked(requests, progress)]
    served = [numbers for numbers in measured if numbers is not None]
    return ForkResult(
        blocks_without_sharing=sum(numbers[0] for numbers in served),
        blocks_with_sharing=sum(numbers[1] for numbers in served),
        cow_copies=sum(numbers[2] for numbers in served),
        requests=len(trace.requests),
        rejected=len(measured) - len(served),
    )


class _Samples:
    """Runs the samples of one request after another, on managers that are empty in between.

    Only lengths matter, so every token is 0, and prefix caching is off.
    """

    def __init__(
        self, requests: list[TraceRequest], num_samples: int, block_size: int, num_blocks: int | None
    ) -> None:
        most = num_samples * max((r.num_blocks(block_size) for r in requests), default=0)
        longest = max((r.num_prompt_tokens + r.num_output_tokens for r in requests), default=0)
        asked = f"num_samples (--fork) is {num_samples}, and without sharing the longest request"
        enough = affordable(most, asked, "take fewer samples, or larger blocks")
        given = enough if num_blocks is None else pool_size(num_blocks, most)
        self._num_samples = num_samples
        self._tokens = np.zeros(longest, np.int32)
        self._apart = _manager(enough, block_size, "lazy")
        self._lazy = _manager(given, block_size, "lazy")
        self._eager = _manager(given, block_size, "eager")

    def measure(self, request: TraceRequest) -> tuple[int, int, int] | None:
        """(Blocks without sharing, blocks with it, copies on write); None if it does not fit the pool.

        Without output no sample ever writes, so none would get its own copy of a partly filled last block.
        The sharing is defined by what samples own, not by what they write: they are then forked eagerly.
        """
        forks = self._lazy if request.num_output_tokens else self._eager
        try:
            with_sharing, copies = self._shared(forks, request)
        except OutOfBlocks:
            return None
        finally:
            _release_all(forks)
        return self._unshared(request), with_sharing, copies

    def _shared(self, cache: BlockManager, request: TraceRequest) -> tuple[int, int]:
        cache.admit(0, self._tokens[: request.num_prompt_tokens])
        for sample in range(1, self._num_samples):
            cache.fork(0, sample)
        output = self._tokens[: request.num_output_tokens]
        copies = sum(len(cache.append(sample, output).copies) for sample in range(self._num_samples))
        return _num_held(cache), copies

    def _unshared(self, request: TraceRequest) -> int:
        num_tokens = request.num_prompt_tokens + request.num_output_tokens
        for sample in range(self._num_samples):
            self._apart.admit(sample, self._tokens[:num_tokens])
        num_held = _num_held(self._apart)
        _release_all(self._apart)
        return num_held


def _manager(num_blocks: int, block_size: int, fork_mode: ForkMode) -> BlockManager:
    return BlockManager(
        CacheConfig(num_blocks=num_blocks, block_size=block_size, prefix_caching=False, fork_mode=fork_mode)
    )


def _num_held(cache: BlockManager) -> int:
    return cache.pool.num_blocks - cache.pool.num_free


def _release_all(cache: BlockManager) -> None:
    for seq_id in cache.seq_ids():
        cache.release(seq_id)
