"""Prompts of a trace for a cache whose blocks may be smaller than the trace's."""

from array import array
from collections.abc import Hashable, Sequence

import numpy as np

from pagedkv.errors import ConfigError
from pagedkv.request import KeyPrompt
from pagedkv.traces import Trace, TraceRequest

__all__ = ["Prompts"]


class Prompts:
    """Makes the prompts of a trace's requests.

    Where a block of the trace is several of the cache, each of these gets an id of its own, made from the
    trace's. A block of the trace that a prompt fills only partly has no ids: it is never shared, though its
    beginning might be.

    Args:
        trace: the trace.
        block_size: tokens in a block of the cache.
        prefix_caching: whether ids matter.

    Raises:
        ConfigError: the cache needs ids that the trace does not have, or its blocks do not divide those of
            the trace.
    """

    def __init__(self, trace: Trace, block_size: int, *, prefix_caching: bool) -> None:
        self._num_parts = _num_parts(trace, block_size) if prefix_caching else 0
        self._trace_block_size = trace.block_size or block_size
        self._numbers: dict[int, int] = {}

    def of(self, request: TraceRequest) -> KeyPrompt:
        """The prompt of a request; ids are made anew at each call, as long ones would fill the memory.

        Raises:
            InvalidRequest: it has no token.
        """
        return KeyPrompt(request.num_prompt_tokens, self._ids(request))

    def _ids(self, request: TraceRequest) -> Sequence[Hashable]:
        if not self._num_parts or request.block_ids is None:
            return ()
        full = request.block_ids[: request.num_prompt_tokens // self._trace_block_size]
        return full if self._num_parts == 1 else self._divided(full)

    def _divided(self, ids: Sequence[int]) -> Sequence[int]:
        """Ids of the parts. The trace's are numbered first, as theirs may have all 64 bits."""
        numbers = self._numbers
        wholes = np.array([numbers.setdefault(each, len(numbers)) for each in ids], np.int64)
        parts = wholes[:, None] * self._num_parts + np.arange(self._num_parts)
        return array("q", parts.tobytes())


def _num_parts(trace: Trace, block_size: int) -> int:
    """Blocks of the cache in one of the trace."""
    if trace.block_size is None:
        raise ConfigError(
            f"{trace.name or 'the trace'} has no block ids, and a hit rate is not invented: choose a prefix "
            "model (--prefix-model none or shared:N), or switch prefix caching off (--no-prefix-caching)"
        )
    if trace.block_size % block_size:
        raise ConfigError(
            f"the trace's ids stand for blocks of {trace.block_size} tokens, which blocks of {block_size} do "
            "not divide: choose a divisor, or switch prefix caching off (--no-prefix-caching)"
        )
    return trace.block_size // block_size
