"""Fragmentation: large blocks under short sequences."""

from dataclasses import replace
from functools import partial

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.metrics import BUSY_TIME, FRAGMENTATION, PREEMPTIONS, SLOTS, SLOWEST_WAIT
from pagedkv.scenarios.scenario import Cure, Scenario, Setup
from pagedkv.traces import Trace, generate

__all__ = ["FRAGMENTATION_SCENARIO"]

_POOL_SLOTS = 8192
_SYSTEM_TOKENS = 264


def _prompts(seed: int, *, block_size: int, answer: float, num_samples: int = 1, copies: int = 1) -> Trace:
    """Short questions behind a system prompt, each asked once, or several times."""
    trace = generate(
        "alpaca", num_requests=300 // (num_samples * copies), seed=seed, block_size=block_size,
        system_tokens=_SYSTEM_TOKENS, request_rate_per_s=30.0 / (num_samples * copies),
        message_tokens_mean=20.0, output_tokens_mean=answer, num_samples=num_samples,
    )  # fmt: skip
    requests = tuple(
        replace(each, index=each.index * copies + again, line=each.index * copies + again + 1)
        for each in trace.requests
        for again in range(copies)
    )
    return replace(trace, requests=requests)


def _setup(
    block_size: int = 256, *, prefix_caching: bool = False, answer: float = 30.0, **traffic: int
) -> Setup:
    return Setup(
        trace=partial(_prompts, block_size=block_size, answer=answer, **traffic),
        cache=CacheConfig(
            num_blocks=_POOL_SLOTS // block_size, block_size=block_size, prefix_caching=prefix_caching
        ),
        how={"device": "a100"},
    )


_SEVERE = _setup()
_MILD = _setup(answer=80.0)

FRAGMENTATION_SCENARIO = Scenario(
    pitfall=Pitfall.FRAGMENTATION,
    about="Prompts of some 290 tokens and answers of 30, in blocks of 256 tokens: the last block of each is "
    "nearly empty, and the pool is full of them (severe). Answers of 80 fill it a little more (mild), blocks "
    "of 1024 are emptier still (extreme).",
    sick={"mild": _MILD, "severe": _SEVERE, "extreme": _setup(1024)},
    cures=(
        Cure(setting="block_size", change="block_size=16", setup=_setup(16)),
        Cure(
            setting="prefix_caching",
            change="prefix_caching=True",
            setup=_setup(prefix_caching=True),
            silences=False,
            note="full blocks are shared, the nearly empty ones are not: less memory, a larger share of it "
            "wasted",
        ),
        Cure(
            setting="reuse",
            change="num_samples=4 instead of 4 equal requests",
            setup=_setup(num_samples=4),
            before=_setup(copies=4),
            silences=False,
            note="likewise; and each sample copies the block that its prompt fills partly: another finding",
        ),
        Cure(
            setting="max_running",
            change="max_running=12",
            of="mild",
            setup=replace(_MILD, scheduler=SchedulerConfig(max_running=12)),
            silences=False,
            note="old sequences end before new ones begin, so fewer are preempted; each wastes as much",
        ),
    ),
    metrics=(FRAGMENTATION, SLOTS, PREEMPTIONS, SLOWEST_WAIT, BUSY_TIME),
    log_lines=("[Allocator] Free blocks: ", "[Allocator] Fragmentation: ", "[Allocator] Fragmentation > 0.4"),
)
