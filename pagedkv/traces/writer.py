"""`write_trace`: Mooncake jsonl, which `read_trace` reads back to an equal trace."""

import json
from collections.abc import Iterator
from typing import TextIO

from pagedkv.traces.mooncake import MOONCAKE_BLOCK_SIZE
from pagedkv.traces.trace import Trace, TraceRequest

__all__ = ["write_trace"]


def write_trace(trace: Trace, stream: TextIO) -> None:
    """Write a trace as Mooncake jsonl, one request a line.

    Keys beyond Mooncake's are written only where they say something: `block_size` where it is not
    Mooncake's 512, `session_id`, `think_ms`, `n` above one sample, `beam_width` above one beam.

    Args:
        trace: a trace whose requests have an id for every prompt block, or no ids at all.
        stream: an open text file.
    """
    stream.writelines(json.dumps(dict(_values(trace, request))) + "\n" for request in trace.requests)


def _values(trace: Trace, request: TraceRequest) -> Iterator[tuple[str, object]]:
    if request.arrival_ms is not None:
        yield "timestamp", request.arrival_ms
    yield "input_length", request.num_prompt_tokens
    yield "output_length", request.num_output_tokens
    if request.block_ids is not None:
        yield "hash_ids", list(request.block_ids)
        if trace.block_size != MOONCAKE_BLOCK_SIZE:
            yield "block_size", trace.block_size
    if request.session_id is not None:
        yield "session_id", request.session_id
    if request.think_ms is not None:
        yield "think_ms", request.think_ms
    if request.num_samples > 1:
        yield "n", request.num_samples
    if request.beam_width > 1:
        yield "beam_width", request.beam_width
