"""What every reader and the generator produce."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["DEFAULT_BLOCK_SIZE", "Trace", "TraceRequest"]

DEFAULT_BLOCK_SIZE = 16
"""Tokens in a block where neither the trace nor the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace.

    Attributes:
        index: position in `Trace.requests`.
        line: 1-based line of the file that it comes from.
        arrival_ms: arrival time on the trace's own clock, or None where the row has none.
        num_prompt_tokens: prompt tokens.
        num_output_tokens: generated tokens.
        block_ids: ids of the prompt's blocks in order; equal ids mean equal prefixes up to and including
            that block. The last one may stand for a block that the prompt fills only partly. None where
            the row has none.
        token_ids: the prompt itself, where the format has it.
        session_id: what ties the turns of one conversation together.
        think_ms: time between the end of the session's previous request and the sending of this one.
        num_samples: independent samples that the client asked for.
        beam_width: beams that the client asked for; 1 is no beam search.
    """

    index: int
    line: int
    arrival_ms: int | None
    num_prompt_tokens: int
    num_output_tokens: int
    block_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    session_id: int | str | None = None
    think_ms: int | None = None
    num_samples: int = 1
    beam_width: int = 1

    def num_blocks(self, block_size: int) -> int:
        """Blocks of `block_size` tokens that prompt and output fill together, the last one maybe partly."""
        return -(-(self.num_prompt_tokens + self.num_output_tokens) // block_size)


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in file order, and what their block ids stand for.

    Attributes:
        name: where it comes from; traces that differ only in this are equal.
        format: name of the format, such as "mooncake".
        block_size: tokens that one block id stands for; None if no request has block ids.
        requests: the requests.
        num_failed: rows of requests that failed when the trace was taken; they are not in `requests`.
    """

    name: str = field(compare=False)
    format: str
    block_size: int | None
    requests: tuple[TraceRequest, ...]
    num_failed: int = 0
