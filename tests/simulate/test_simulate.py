"""A trace through scheduler and cache on a virtual clock."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.simulate import CostModel, SimulationResult, StepWork, fitting_cache, simulate
from pagedkv.simulate.result import nearest_rank
from pagedkv.traces import Trace, TraceRequest, generate

SMALL = CacheConfig(num_blocks=200, block_size=16)


def trace_of(*requests: TraceRequest, block_size: int | None = 16) -> Trace:
    """A trace of these requests."""
    numbered = tuple(replace(each, index=index, line=index + 1) for index, each in enumerate(requests))
    return Trace("made", "mooncake", block_size, numbered)


def request(arrival_ms: int | None, prompt: int, output: int, **others: object) -> TraceRequest:
    """A request that shares nothing."""
    return TraceRequest(0, 0, arrival_ms, prompt, output, **others)  # type: ignore[arg-type]


def test_one_request_by_hand() -> None:
    """A prompt of 100 tokens in one step, then a step for each token but the first."""
    found = simulate(trace_of(request(5, 100, 4)), cache=SMALL, device="h100", model="llama-3-8b")

    cost = CostModel("h100", "llama-3-8b", block_size=16)
    prefill = cost.work_ns(StepWork(100, 1, 100, 100 * 101 // 2, 0))
    decodes = [cost.work_ns(StepWork(1, 1, length, length, 0)) for length in (101, 102, 103)]
    (line,) = found.timelines
    assert (line.arrival_ns, line.first_scheduled_ns) == (5_000_000, 5_000_000)
    assert line.first_token_ns == 5_000_000 + prefill
    assert line.finished_ns == found.makespan_ns == 5_000_000 + prefill + sum(decodes)
    assert (found.steps, found.batch_size_sum, found.busy_ns) == (4, 4, prefill + sum(decodes))
    assert (found.ttft_p50_ns, found.ttft_p99_ns) == (prefill, prefill)
    assert (found.inter_token_p50_ns, found.inter_token_p99_ns) == (decodes[1], decodes[2])
    assert found.peak_blocks == 7


def test_arrivals_wait_for_the_step_in_flight() -> None:
    """A request that comes during a step begins with the next one, and its time counts from its arrival."""
    found = simulate(trace_of(request(0, 2000, 2), request(1, 16, 2)), cache=SMALL)

    first, second = found.timelines
    assert second.arrival_ns == 1_000_000
    assert second.first_scheduled_ns == first.first_token_ns
    assert found.queue_wait_p99_ns == first.first_token_ns - 1_000_000


def test_requests_that_can_never_run_are_counted() -> None:
    """One that is larger than the pool and one without a prompt are rejected; the others run."""
    found = simulate(trace_of(request(0, 16 * 200, 2), request(0, 0, 3), request(0, 10, 3)), cache=SMALL)

    assert (found.requests, found.rejected, [line.request for line in found.timelines]) == (3, 2, [2])


def test_no_output_is_one_token() -> None:
    """A prompt that is computed brings a token, also where the trace says that there was none."""
    found = simulate(trace_of(request(0, 10, 0)), cache=SMALL)

    assert (found.generated_tokens, found.steps) == (1, 1)


def test_turns_wait_for_the_answer_and_the_user() -> None:
    """With think times a session's next request is sent that long after the answer; else at its own time."""
    turns = trace_of(
        request(0, 100, 50, session_id=1), request(7, 200, 5, session_id=1, think_ms=40), block_size=16
    )

    closed, scaled, opened = (
        simulate(turns, cache=SMALL, **how) for how in ({}, {"time_scale": 2.0}, {"closed_loop": False})
    )

    assert closed.timelines[1].arrival_ns == closed.timelines[0].finished_ns + 40_000_000
    assert scaled.timelines[1].arrival_ns == scaled.timelines[0].finished_ns + 80_000_000
    assert opened.timelines[1].arrival_ns == 7_000_000


def test_a_session_goes_on_behind_a_rejected_request() -> None:
    """What can never run ends when it comes."""
    turns = trace_of(request(3, 10_000, 5, session_id=1), request(9, 20, 5, session_id=1, think_ms=40))

    found = simulate(turns, cache=SMALL)

    assert found.rejected == 1
    assert found.timelines[0].arrival_ns == 43_000_000


def test_prefixes_hit_in_smaller_blocks() -> None:
    """Ids of 64 tokens are four ids of 16: two full common blocks are 128 tokens."""
    one = request(0, 200, 2, block_ids=[7, 8, 9, 10])
    other = request(1000, 170, 2, block_ids=[7, 8, 11])
    found = simulate(trace_of(one, other, block_size=64), cache=SMALL)

    assert [line.cached_tokens for line in found.timelines] == [
        (2_984, 14_564_434_057, 26_962_714, 4_604_464, 0, 0),
        (369, 2_686_939_282, 1_196_906_280, 40_682_614, 0, 0),
        (2_417, 11_815_988_835, 7_404_391_547, 16_982_275, 58, 249),
        (1_225, 6_189_445_071, 1_087_434_855, 11_484_953, 15, 1_607),
    ]


def test_other_processes_find_the_same() -> None:
    """Every number, series and timeline is the same under two other hash seeds."""
    program = "from tests.simulate.test_simulate import *; print([digest(each) for each in golden()])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }

    assert outputs == {str([digest(each) for each in golden()])}
