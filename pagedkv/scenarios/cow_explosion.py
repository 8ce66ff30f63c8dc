"""Copy-on-write explosion: wide beams over large blocks."""

from dataclasses import replace
from functools import partial

from pagedkv.config import CacheConfig, ForkMode, SchedulerConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.metrics import (
    AMPLIFICATION,
    BUSY_TIME,
    COPIES,
    PROMPT_TOKENS,
    SHARED_WRITES,
    STEPS,
)
from pagedkv.scenarios.scenario import Cure, Scenario, Setup
from pagedkv.traces import Trace, generate

__all__ = ["COW_EXPLOSION"]

_POOL_SLOTS = 131_072


def _cache(block_size: int, fork_mode: ForkMode = "lazy") -> CacheConfig:
    return CacheConfig(num_blocks=_POOL_SLOTS // block_size, block_size=block_size, fork_mode=fork_mode)


def _beams(seed: int, *, width: int, block_size: int) -> Trace:
    return generate(
        "beams", num_requests=3, seed=seed, beam_width=width, block_size=block_size,
        output_tokens_mean=200.0, output_tokens_sigma=0.2,
    )  # fmt: skip


def _samples(seed: int, *, num_samples: int) -> Trace:
    """Many short answers to each question."""
    return generate(
        "samples", num_requests=40, seed=seed, num_samples=num_samples, block_size=64,
        output_tokens_mean=8.0, output_tokens_sigma=0.3,
    )  # fmt: skip


def _apart(seed: int, *, width: int, block_size: int) -> Trace:
    """As many requests of their own as there are beams: each computes its prompt, and decodes alone."""
    trace = _beams(seed, width=1, block_size=block_size)
    requests = tuple(
        replace(each, index=each.index * width + beam, line=each.index * width + beam + 1)
        for each in trace.requests
        for beam in range(width)
    )
    return replace(trace, requests=requests)


def _wide(width: int = 16, block_size: int = 64, fork_mode: ForkMode = "lazy") -> Setup:
    return Setup(
        trace=partial(_beams, width=width, block_size=block_size),
        cache=_cache(block_size, fork_mode),
        how={"device": "a100"},
    )


_SEVERE = _wide()
_ALONE = Setup(
    trace=partial(_apart, width=16, block_size=64),
    cache=_cache(64),
    scheduler=SchedulerConfig(max_running=1),
    how={"device": "a100"},
)
_VOTES = Setup(trace=partial(_samples, num_samples=16), cache=_cache(64), how={"device": "a100"})

COW_EXPLOSION = Scenario(
    pitfall=Pitfall.COW_EXPLOSION,
    about="Searches with 16 beams over blocks of 64 tokens: nearly every step some beams part, and each "
    "copies a block to write one token (severe). With 8 beams it is less (mild); 16 short samples of each "
    "prompt part once, and write little (samples).",
    sick={"mild": _wide(width=8), "severe": _SEVERE, "samples": _VOTES},
    cures=(
        Cure(
            setting="beam_width",
            change="beam_width=2",
            setup=_wide(width=2),
            note="and with it another search",
        ),
        Cure(setting="block_size", change="block_size=16", setup=_wide(block_size=16)),
        Cure(
            setting="fork_mode",
            change='fork_mode="full_blocks"',
            of="samples",
            setup=replace(_VOTES, cache=_cache(64, "full_blocks")),
            note="each sample computes the rest of the prompt, which costs more than the copy here",
        ),
        Cure(
            setting="fork_mode_of_beams",
            change='fork_mode="full_blocks"',
            setup=_wide(fork_mode="full_blocks"),
            note="beams that part wait a step and compute up to a block again: slower than copying",
        ),
        Cure(
            setting="eager_copies",
            change='fork_mode="eager"',
            setup=_wide(fork_mode="eager"),
            silences=False,
            note="as many copies, but none at a write; here both run in front of the same step",
        ),
        Cure(
            setting="one_batch",
            change="beam_width=16 instead of 16 requests one after the other",
            setup=_SEVERE,
            before=_ALONE,
            silences=False,
            note="copies are the price of it, and a small one",
        ),
    ),
    metrics=(COPIES, AMPLIFICATION, SHARED_WRITES, PROMPT_TOKENS, STEPS, BUSY_TIME),
    log_lines=("[KV] Refcount over 3", "[KV] Copy-on-write: "),
)
