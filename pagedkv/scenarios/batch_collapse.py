"""Batch collapse: a document comes, and everybody else waits while few run."""

import random
from dataclasses import replace
from functools import partial
from typing import Any

from pagedkv.config import CacheConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios.metrics import (
    BUSY_TIME,
    COLLAPSED_TIME,
    LONGEST_WAIT,
    PREEMPTIONS,
    STEPS,
    USUAL_WAIT,
)
from pagedkv.scenarios.scenario import Cure, Scenario, Setup
from pagedkv.traces import Trace, TraceRequest

__all__ = ["BATCH_COLLAPSE"]

_DEVICE = {"device": "a100"}


def _crowds(seed: int, *, document_tokens: int) -> Trace:
    """A steady stream of short requests; at its end one more, a document, and a crowd. Twice."""
    draw = random.Random(seed)  # noqa: S311 - a workload has to repeat, not to be secret
    requests: list[TraceRequest] = []
    for number in range(2):
        at_ms = number * 20_000
        for place in range(232):
            at_ms += draw.randrange(2, 7) if place < 200 else 0
            length = document_tokens if place == 201 else draw.randrange(30, 60)
            requests.append(_request(len(requests), at_ms, length, draw.randrange(10, 16)))
    return Trace(f"crowds, seed {seed}", "mooncake", 16, tuple(requests))


def _streams(seed: int, *, document_tokens: int) -> Trace:
    """Short requests in a steady stream, and in the midst of it a document. Twice."""
    draw = random.Random(seed)  # noqa: S311 - likewise
    requests: list[TraceRequest] = []
    for number in range(2):
        at_ms = number * 16_000
        for place in range(200):
            at_ms += draw.randrange(15, 45)
            is_document = place == 80
            length = document_tokens if is_document else draw.randrange(100, 300)
            requests.append(_request(len(requests), at_ms, length, draw.randrange(100, 130)))
    return Trace(f"streams, seed {seed}", "mooncake", 16, tuple(requests))


def _plain(seed: int, *, num_requests: int, answer: int, gap_ms: int) -> Trace:
    """Short requests in a steady stream, and nothing else."""
    draw = random.Random(seed)  # noqa: S311 - likewise
    requests: list[TraceRequest] = []
    for place in range(num_requests):
        at_ms = place * gap_ms + draw.randrange(gap_ms)
        requests.append(_request(place, at_ms, draw.randrange(100, 300), draw.randrange(answer, 2 * answer)))
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


def _pool(num_blocks: int) -> CacheConfig:
    return CacheConfig(num_blocks=num_blocks, prefix_caching=False)


_SEVERE = Setup(trace=partial(_crowds, document_tokens=60_000), cache=_pool(20_000), how=_DEVICE)
_MILD = replace(_SEVERE, trace=partial(_crowds, document_tokens=40_000))
_STARVED = Setup(trace=partial(_streams, document_tokens=22_000), cache=_pool(1500), how=_DEVICE)
_TRICKLE = Setup(
    trace=partial(_plain, num_requests=100, answer=20, gap_ms=40), cache=_pool(8000), how=_DEVICE
)


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
            note="the document begins when all short ones have begun",
        ),
        Cure(
            setting="max_chunk_tokens",
            change="max_chunk_tokens=512",
            setup=_changed(_SEVERE, max_chunk_tokens=512),
            note="the document takes no more than a quarter of a step",
        ),
        Cure(
            setting="policy",
            change='policy="lifo"',
            of="starved",
            setup=_changed(_STARVED, policy="lifo"),
            note="the document waits until the stream ends, or for max_wait_ms",
        ),
        Cure(
            setting="batch_merge_window_ms",
            change="batch_merge_window_ms=100.0",
            setup=_changed(_SEVERE, batch_merge_window_ms=100.0),
            silences=False,
            note="nothing: those that wait have come long ago",
        ),
        Cure(
            setting="batch_merge_window_of_a_trickle",
            change="batch_merge_window_ms=100.0, where requests trickle in",
            before=_TRICKLE,
            setup=_changed(_TRICKLE, batch_merge_window_ms=100.0),
            note="fewer steps; everybody waits for the window. No pitfall to begin with",
        ),
        Cure(
            setting="adaptive_batch_size",
            change="adaptive_batch_size=True",
            of="starved",
            setup=_changed(_STARVED, adaptive_batch_size=True),
            silences=False,
            note="half the preemptions; who waits for room waits as before",
        ),
    ),
    metrics=(COLLAPSED_TIME, USUAL_WAIT, LONGEST_WAIT, STEPS, BUSY_TIME, PREEMPTIONS),
    log_lines=("[Scheduler] Batch size reduced: ", "[Scheduler] Batch collapse detected"),
)
