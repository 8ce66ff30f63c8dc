"""What a caller of `read_trace` can choose, as the format modules see it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["DEFAULT_OUTPUT_TOKENS", "ReadOptions", "Tokenizer"]

Tokenizer = Callable[[str], Sequence[int]]

DEFAULT_OUTPUT_TOKENS = 256
"""Tokens generated for a row that does not say; the default of vLLM's `--custom-output-len`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options of `read_trace`, see there."""

    block_size: int | None = None
    block_ids: bool = True
    tokenizer: Tokenizer | str | None = None
    num_output_tokens: int = DEFAULT_OUTPUT_TOKENS
