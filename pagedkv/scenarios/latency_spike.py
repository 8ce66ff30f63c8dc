"""Latency spike: decode steps that wait for copies, or for a compiler."""

from typing import Any

import numpy as np

from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.pitfalls.step_times import decode_intervals
from pagedkv.scenarios.scenario import Cure, Metric, Outcome, Scenario, Setup
from pagedkv.traces import Trace, generate

__all__ = ["LATENCY_SPIKE", "chats"]

_GIB = 2**30


def chats(seed: int) -> Trace:
    """Requests, each of which begins with one of 60 system prompts of 4000 tokens."""
    return generate(
        "chat",
        num_requests=150,
        seed=seed,
        block_size=64,
        num_system_prompts=60,
        system_tokens=4_000,
        message_tokens_mean=200.0,
        message_tokens_sigma=0.5,
        output_tokens_mean=100.0,
        output_tokens_sigma=0.5,
        turns_mean=1.0,
        burstiness=1.0,
        request_rate_per_s=5.0,
        max_prompt_tokens=16_000,
    )


def _setup(*, warm_up: bool = True, batch_period_ms: float = 0.0, **offload: Any) -> Setup:
    return Setup(
        trace=chats,
        cache=CacheConfig(num_blocks=1_600, block_size=64),
        scheduler=SchedulerConfig(max_running=24, batch_period_ms=batch_period_ms),
        offload=OffloadConfig(pinned_bytes=64 * _GIB, **offload),
        how={"device": "a100", "warm_up": warm_up},
    )


def _percentile_us(outcome: Outcome, percent: int) -> int:
    """Of the time from a token of the decoding sequences to the next one, in steps without prompts."""
    times = decode_intervals(outcome.window)
    return int(np.percentile(times, percent, method="inverted_cdf")) // 1000 if len(times) else 0


def _p99_over_p50_percent(outcome: Outcome) -> int:
    return 100 * _percentile_us(outcome, 99) // max(1, _percentile_us(outcome, 50))


_SEVERE = _setup(io_streams=0)
_BLOCKING = _setup(deferred_events=False)
_COLD = _setup(warm_up=False)

LATENCY_SPIKE = Scenario(
    pitfall=Pitfall.LATENCY_SPIKE,
    about="Prompts that others have pushed out come back from host memory, and everybody's step waits until "
    "they have. Or the first step of a kind waits until its kernels are compiled.",
    sick={
        "severe": _SEVERE,
        "blocking events": _BLOCKING,
        "cold kernels": _COLD,
    },
    cures=(
        Cure(
            setting="io_streams",
            change="io_streams=2",
            setup=_setup(io_streams=2),
            note="One stream does as well here; the link is not the bottleneck.",
        ),
        Cure(
            setting="deferred_events",
            change="deferred_events=True",
            setup=_setup(deferred_events=True),
            of="blocking events",
            note="With io_streams=0 it changes nothing: copies are then part of the step.",
        ),
        Cure(
            setting="batch_period_ms",
            change="batch_period_ms=60.0",
            of="blocking events",
            setup=_setup(deferred_events=False, batch_period_ms=60.0),
            note="Tokens come evenly, and all of them as late as the latest ones before.",
        ),
        Cure(
            setting="warm_up",
            change="warm_up=True",
            setup=_setup(warm_up=True),
            of="cold kernels",
        ),
    ),
    metrics=(
        Metric("decode_p99_over_p50_percent", _p99_over_p50_percent),
        Metric("decode_p99_us", lambda outcome: _percentile_us(outcome, 99)),
        Metric("decode_p50_us", lambda outcome: _percentile_us(outcome, 50)),
        Metric("sync_ms", lambda outcome: outcome.window.total("sync_ns") // 10**6),
        Metric("compile_ms", lambda outcome: outcome.window.total("compile_ns") // 10**6),
        Metric("ttft_p50_ms", lambda outcome: outcome.result.ttft_p50_ns // 10**6),
        Metric("step_max_ms", lambda outcome: int(outcome.window["duration_ns"].max()) // 10**6),
    ),
    log_lines=("[GPU Stream Sync] wait_event", "[Engine] Step "),
)
"""See `Scenario`."""
