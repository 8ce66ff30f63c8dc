"""Block ids for traces that have none, under an assumption that the user spells out."""

import re
from array import array
from dataclasses import dataclass, replace

from pagedkv.errors import ConfigError
from pagedkv.traces.trace import Trace

__all__ = ["PrefixModel"]


@dataclass(frozen=True, slots=True)
class PrefixModel:
    """The assumption that all prompts begin with the same tokens, and are all different behind them.

    Args:
        num_shared_tokens: how many tokens all prompts share, such as the length of a system prompt.

    Raises:
        ConfigError: the number is negative.
    """

    num_shared_tokens: int = 0

    def __post_init__(self) -> None:
        if self.num_shared_tokens < 0:
            raise ConfigError(f"num_shared_tokens is {self.num_shared_tokens}; it must not be negative")

    @classmethod
    def parse(cls, text: str) -> "PrefixModel":
        """The model that "none" or "shared:N" names.

        Raises:
            ConfigError: it is neither.
        """
        match = re.fullmatch(r"none|shared:(\d{1,10})", text, re.ASCII)
        if match is None:
            raise ConfigError(f"prefix model {text!r} is unknown; it must be none or shared:N with N tokens")
        return cls(int(match[1] or 0))

    def applied_to(self, trace: Trace, block_size: int) -> Trace:
        """The trace with block ids: blocks inside the shared tokens have shared ids, all others their own.

        Raises:
            ConfigError: the trace has block ids of its own.
        """
        if trace.block_size is not None:
            raise ConfigError(f"{trace.name} has block ids of its own; a prefix model would replace them")
        fresh = self.num_shared_tokens // block_size
        requests = []
        for request in trace.requests:
            num_tokens = request.num_prompt_tokens
            shared = min(self.num_shared_tokens, num_tokens) // block_size
            own = -(-num_tokens // block_size) - shared
            ids = array("q", (*range(shared), *range(fresh, fresh + own)))
            requests.append(replace(request, block_ids=ids))
            fresh += own
        return replace(trace, block_size=block_size, requests=tuple(requests))
