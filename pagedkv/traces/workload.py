"""What the generator can be asked for: a workload by its statistics, and presets by name."""

from dataclasses import dataclass, field, fields
from typing import Any

from pagedkv.errors import ConfigError

__all__ = ["PRESETS", "Workload"]


def _setting(default: float, about: str, *, low: float = 0) -> Any:
    return field(default=default, metadata={"about": about, "low": low})


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Statistics of a workload.

    Conversations arrive in bursts, and the bursts as a Poisson process; a burst has a geometric number of
    conversations, which arrive together. So the variance of the number of arrivals in any window, divided by
    its mean, is `burstiness`, and 1 is a plain Poisson process. A conversation has a geometric number of
    turns. Each prompt is the whole conversation so far and a new message; each turn comes an exponential
    think time after the last answer. Lengths are lognormal; `mean` is their mean, not that of their
    logarithm.

    Args:
        request_rate_per_s: mean requests a second, over all conversations; at least one in twelve days.
        burstiness: variance over mean of the number of conversations that arrive in any window.
        block_size: tokens that one block id stands for.
        num_system_prompts: system prompts, of which each conversation begins with one.
        system_tokens: tokens of a system prompt.
        message_tokens_mean: mean tokens of a new message.
        message_tokens_sigma: standard deviation of the logarithm of a message's tokens.
        output_tokens_mean: mean tokens of an answer.
        output_tokens_sigma: standard deviation of the logarithm of an answer's tokens.
        document_ratio: share of the messages that are a document instead.
        document_tokens: tokens of a document.
        turns_mean: mean turns of a conversation.
        think_time_mean_s: mean time between an answer and the next message.
        max_prompt_tokens: a conversation ends before its prompt grows beyond this; a first one is cut.
        num_samples: samples of the requests that want several.
        beam_width: beams of the requests that want several.
        fork_ratio: share of the requests that want several samples or beams.

    Raises:
        ConfigError: a number is out of range.
    """

    request_rate_per_s: float = _setting(4.0, "mean requests a second", low=1e-6)
    burstiness: float = _setting(1.0, "variance/mean of arrivals in a window; 1 is Poisson", low=1)
    block_size: int = _setting(16, "tokens that one block id stands for", low=1)
    num_system_prompts: int = _setting(1, "number of different system prompts", low=1)
    system_tokens: int = _setting(0, "tokens of a system prompt")
    message_tokens_mean: float = _setting(512.0, "mean tokens of a new message", low=1)
    message_tokens_sigma: float = _setting(1.0, "sigma of the lognormal message length")
    output_tokens_mean: float = _setting(200.0, "mean tokens of an answer", low=1)
    output_tokens_sigma: float = _setting(1.0, "sigma of the lognormal answer length")
    document_ratio: float = _setting(0.0, "share of the messages that are documents")
    document_tokens: int = _setting(16_384, "tokens of a document", low=1)
    turns_mean: float = _setting(1.0, "mean turns of a conversation", low=1)
    think_time_mean_s: float = _setting(10.0, "mean seconds between an answer and the next message")
    max_prompt_tokens: int = _setting(131_072, "longest prompt", low=1)
    num_samples: int = _setting(1, "samples of a request that wants several", low=1)
    beam_width: int = _setting(1, "beams of a request that wants several", low=1)
    fork_ratio: float = _setting(1.0, "share of requests that want several samples or beams")

    def __post_init__(self) -> None:
        for setting in fields(self):
            _require(setting.name, getattr(self, setting.name), setting.type is int, setting.metadata["low"])
        for name in ("document_ratio", "fork_ratio"):
            if getattr(self, name) > 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it is a share, from 0 to 1")
        if self.system_tokens >= self.max_prompt_tokens:
            raise ConfigError(
                f"system_tokens is {self.system_tokens}; it must be less than max_prompt_tokens, "
                f"{self.max_prompt_tokens}"
            )


def _require(name: str, value: float, whole: bool, low: float) -> None:
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds or not low <= value <= _HIGHEST:
        raise ConfigError(
            f"{name} is {value!r}; it must be {kinds[-1].__name__}, at least {low}, at most {_HIGHEST}"
        )


_HIGHEST = 2**30

PRESETS = {
    "chat": Workload(
        request_rate_per_s=5.5,
        burstiness=4.0,
        num_system_prompts=4,
        system_tokens=400,
        message_tokens_mean=150.0,
        output_tokens_mean=211.0,
        turns_mean=4.0,
        think_time_mean_s=20.0,
        max_prompt_tokens=32_768,
    ),
    "code": Workload(
        request_rate_per_s=2.6,
        burstiness=4.0,
        num_system_prompts=2,
        system_tokens=256,
        message_tokens_mean=1800.0,
        output_tokens_mean=28.0,
        output_tokens_sigma=1.2,
        max_prompt_tokens=8192,
    ),
    "agentic": Workload(
        request_rate_per_s=0.5,
        block_size=64,
        system_tokens=15_000,
        message_tokens_mean=2500.0,
        message_tokens_sigma=1.5,
        output_tokens_mean=433.0,
        output_tokens_sigma=1.2,
        turns_mean=20.0,
        think_time_mean_s=8.0,
        max_prompt_tokens=262_144,
    ),
    "bursty": Workload(
        request_rate_per_s=2.6,
        burstiness=71.0,
        message_tokens_mean=2048.0,
        output_tokens_mean=28.0,
        output_tokens_sigma=1.2,
        max_prompt_tokens=8192,
    ),
    "samples": Workload(message_tokens_mean=300.0, num_samples=4),
    "beams": Workload(message_tokens_mean=300.0, beam_width=4),
    # means of both: figure 11 of "Efficient Memory Management for Large Language Model Serving with
    # PagedAttention", SOSP 2023; prompts and answers beyond 2048 tokens are cut there. The spreads are ours:
    # with them parallel samples share as many blocks as figure 15 says.
    "alpaca": Workload(
        message_tokens_mean=19.31,
        message_tokens_sigma=0.7,
        output_tokens_mean=58.45,
        output_tokens_sigma=0.9,
        max_prompt_tokens=2048,
    ),
    "sharegpt": Workload(
        message_tokens_mean=161.31,
        message_tokens_sigma=0.5,
        output_tokens_mean=337.99,
        output_tokens_sigma=0.7,
        max_prompt_tokens=2048,
    ),
}
"""Workloads by name, shaped after public traces: chat (Azure conversations, with turns), code and bursty
(Azure code: completions, and their bursts), agentic (coding agents), samples and beams (parallel sampling and
beam search over single prompts), alpaca and sharegpt (single prompts with the mean lengths of these data
sets; set num_samples or beam_width)."""
