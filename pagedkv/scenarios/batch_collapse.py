"""Batch collapse: a document comes, and everybody else waits while few run."""

import random
from dataclasses import replace
from functools import partial
from typing import Any

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.metrics import BUSY_TIME, COLLAPSED_TIME, PREEMPTIONS, SLOWEST_WAIT, USUAL_WAIT
from pagedkv.scenarios.scenario import Cure, Scenario, Setup
from pagedkv.traces import Trace, TraceRequest

__all__ = ["BATCH_COLLAPSE"]

_ROUNDS = 5


def _bursts(seed: int, *, num_short: int, document_tokens: int, round_ms: int) -> Trace:
    """Rounds of short requests that come at once, a document among the first of them."""
    draw = random.Random(seed)  # noqa: S311 - a workload has to repeat, not to be secret
    requests: list[TraceRequest] = []
    for number in range(_ROUNDS):
        document = draw.randrange(num_short // 4, num_short // 2)
        for place in range(num_short + 1):
            length = document_tokens if place == document else draw.randrange(40, 160)
            requests.append(_request(len(requests), number * round_ms, length, draw.randrange(30, 50)))
    return Trace(f"bursts, seed {seed}", "mooncake", 16, tuple(requests))


def _stream(seed: int, *, document_tokens: int, num_documents: int) -> Trace:
    """A steady stream of short requests, and a document now and then that needs most of the pool."""
    draw = random.Random(seed)  # noqa: S311 - likewise
    requests: list[TraceRequest] = []
    at_ms, num_short = 0, 100
    for number in range(num_documents + 1):
        for place in range(num_short):
            at_ms += draw.randrange(10, 50)
            is_document = number > 0 and place == 0
            length = document_tokens if is_document else draw.randrange(100, 300)
            requests.append(_request(len(requests), at_ms, length, draw.randrange(80, 160)))
    return Trace(f"stream, seed {seed}", "mooncake", 16, tuple(requests))


def _request(index: int, arrival_ms: int, num_prompt_tokens: int, num_output_tokens: int) -> TraceRequest:
    return TraceRequest(
        index=index,
        line=index + 1,
        arrival_ms=arrival_ms,
        num_prompt_tokens=num_prompt_tokens,
        num_output_tokens=num_output_tokens,
        block_ids=None,
    )


_DEVICE = {"device": "a100"}
_ROOMY = CacheConfig(num_blocks=20_000, prefix_caching=False)
_TIGHT = CacheConfig(num_blocks=1500, prefix_caching=False)
_SMALL_STEPS = SchedulerConfig(max_batch_tokens=512)

_SEVERE = Setup(
    trace=partial(_bursts, num_short=60, document_tokens=40_000, round_ms=12_000),
    cache=_ROOMY,
    scheduler=_SMALL_STEPS,
    how=_DEVICE,
)
_MILD = replace(_SEVERE, trace=partial(_bursts, num_short=60, document_tokens=26_000, round_ms=12_000))
_STARVED = Setup(trace=partial(_stream, document_tokens=20_000, num_documents=3), cache=_TIGHT, how=_DEVICE)


def _changed(setup: Setup, **settings: Any) -> Setup:
    return replace(setup, scheduler=replace(setup.scheduler, **settings))


BATCH_COLLAPSE = Scenario(
    pitfall=Pitfall.BATCH_COLLAPSE,
    about="Short requests run beside each other until a document comes. Its prompt takes all tokens of the "
    "steps (mild, severe), or it waits for most of the pool and nobody may begin before it (starved).",
    sick={"mild": _MILD, "severe": _SEVERE, "starved": _STARVED},
    cures=(
        Cure(
            setting="length_buckets",
            change="length_buckets=(4096,)",
            setup=_changed(_SEVERE, length_buckets=(4096,)),
        ),
        Cure(
            setting="max_chunk_tokens",
            change="max_chunk_tokens=256",
            setup=_changed(_SEVERE, max_chunk_tokens=256),
        ),
        Cure(
            setting="policy",
            change='policy="lifo"',
            of="starved",
            setup=_changed(_STARVED, policy="lifo"),
        ),
        Cure(
            setting="batch_merge_window_ms",
            change="batch_merge_window_ms=100.0",
            setup=_changed(_SEVERE, batch_merge_window_ms=100.0),
            silences=False,
        ),
        Cure(
            setting="adaptive_batch_size",
            change="adaptive_batch_size=True",
            of="starved",
            setup=_changed(_STARVED, adaptive_batch_size=True),
            silences=False,
        ),
    ),
    metrics=(COLLAPSED_TIME, USUAL_WAIT, SLOWEST_WAIT, BUSY_TIME, PREEMPTIONS),
    log_lines=("[Scheduler] Batch size reduced: ", "[Scheduler] Batch collapse detected"),
)
