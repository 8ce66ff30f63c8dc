"""A trace through scheduler and cache on a virtual clock."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.config import CacheConfig, OffloadConfig, Policy, SchedulerConfig
from pagedkv.engine.stats import nearest_rank
from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.simulate import CostModel, StepWork, fitting_cache, simulate
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

    assert [line.cached_tokens for line in found.timelines] == [0, 128]
    assert (found.hit_tokens, found.prefill_tokens) == (128, 370 - 128)


def test_ids_of_64_bits_can_be_divided() -> None:
    """Ids that use all their bits, as those of sessions do, are numbered first."""
    ids = [(1 << 62) | place for place in range(3)]
    rows = [request(time, 192, 2, block_ids=ids) for time in (0, 1000)]

    assert simulate(trace_of(*rows, block_size=64), cache=SMALL).hit_tokens == 176


def test_without_prefix_caching_nothing_hits() -> None:
    """Then the trace needs no ids, and blocks may have any size."""
    cache = replace(SMALL, prefix_caching=False, block_size=24)
    rows = [request(time, 192, 2, block_ids=[1, 2, 3]) for time in (0, 1000)]

    assert simulate(trace_of(*rows, block_size=64), cache=cache).hit_tokens == 0
    assert simulate(trace_of(request(0, 50, 2), block_size=None), cache=cache).rejected == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"cache": CacheConfig(num_blocks=9, block_size=24)},
            "ids stand for blocks of 64 tokens, which blocks of 24",
        ),
        ({"time_scale": 0.0}, "time_scale is 0.0"),
        ({"time_scale": float("inf")}, "time_scale is inf"),
        ({"sample_interval_ms": 0}, "sample_interval_ms is 0"),
        ({"device": "abacus"}, "device profile 'abacus' is unknown"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_settings_are_refused(how: dict[str, object], message: str) -> None:
    """The message names the setting and the numbers."""
    trace = trace_of(request(0, 64, 2, block_ids=[1]), block_size=64)

    with pytest.raises(ConfigError, match=message):
        simulate(trace, **({"cache": SMALL} | how))  # type: ignore[arg-type]


def test_traces_without_ids_or_times_are_refused() -> None:
    """A hit rate is not invented, and neither are arrivals."""
    with pytest.raises(ConfigError, match="no block ids, and a hit rate is not invented"):
        simulate(trace_of(request(0, 64, 2), block_size=None), cache=SMALL)
    with pytest.raises(TraceFormatError, match="made:1: timestamp: expected an arrival time"):
        simulate(trace_of(request(None, 64, 2)), cache=SMALL)


def test_preemptions_are_counted() -> None:
    """In a tight pool requests lose blocks; what they compute again was lost before."""
    trace = generate("code", num_requests=60, seed=1, request_rate_per_s=50.0, output_tokens_mean=200.0)
    found = simulate(trace, cache=CacheConfig(num_blocks=600, block_size=16))

    assert found.preemptions == sum(line.preemptions for line in found.timelines) > 0
    assert 0 < found.recomputed_tokens <= found.lost_tokens
    assert found.peak_blocks <= 600
    served = [trace.requests[line.request] for line in found.timelines]
    assert found.generated_tokens == sum(each.num_output_tokens for each in served)


@pytest.mark.parametrize("preset", ["code", "samples"])
def test_prompts_are_computed_once_and_what_was_lost_again(preset: str) -> None:
    """Without a cache each prompt token is new once; the last token of a resume is no prompt's."""
    trace = generate(preset, num_requests=40, seed=1, request_rate_per_s=50.0, output_tokens_mean=200.0)
    found = simulate(trace, cache=CacheConfig(num_blocks=600, block_size=16, prefix_caching=False))

    assert found.preemptions > 0
    assert found.hit_tokens == 0
    assert found.prefill_tokens - found.recomputed_tokens == found.prompt_tokens


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["chat", "code", "samples", "beams"]),
    st.integers(0, 1000),
    st.integers(40, 400),
    st.sampled_from(["fcfs", "lifo", "priority"]),
    st.booleans(),
)
def test_every_request_ends_exactly_once(
    preset: str, seed: int, num_blocks: int, policy: Policy, adaptive: bool
) -> None:
    """Whatever the pool: nobody is lost, nobody runs twice, and each gets the tokens that it asked for."""
    short = {"message_tokens_mean": 100.0, "output_tokens_mean": 20.0, "max_prompt_tokens": 2000}
    trace = generate(preset, num_requests=25, seed=seed, request_rate_per_s=40.0, **short)
    found = simulate(
        trace,
        cache=CacheConfig(num_blocks=num_blocks, block_size=16),
        scheduler=SchedulerConfig(max_batch_tokens=256, policy=policy, adaptive_batch_size=adaptive),
        model="tiny",
    )

    ran = [line.request for line in found.timelines]
    assert ran == sorted(set(ran))
    assert len(ran) + found.rejected == found.requests == 25
    for line in found.timelines:
        asked = trace.requests[line.request]
        assert line.output_tokens == max(1, asked.num_output_tokens) * asked.num_samples
        assert line.prompt_tokens == asked.num_prompt_tokens
        assert line.arrival_ns <= line.first_scheduled_ns < line.first_token_ns <= line.finished_ns
    assert found.prefill_tokens - found.recomputed_tokens + found.hit_tokens <= found.prompt_tokens
    if not found.preemptions:
        assert found.prefill_tokens + found.hit_tokens == found.prompt_tokens
        assert found.recomputed_tokens == 0
    assert found.block_steps <= found.unshared_block_steps
    assert 0 <= found.fragmentation_mean_ppm <= found.fragmentation_max_ppm <= 10**6


@given(st.lists(st.integers(0, 100), min_size=1, max_size=60), st.integers(1, 100))
def test_percentiles_are_nearest_ranks(values: Sequence[int], percent: int) -> None:
    """At least so many percent of the values are at most the percentile, and it is the smallest such one."""
    (found,) = nearest_rank(np.array(values, np.int64), (percent,))

    assert found in values
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)


def test_series_are_sampled_at_fixed_intervals() -> None:
    """No two looks are in the same interval of virtual time, and all columns have equal lengths."""
    found = simulate(generate("chat", num_requests=40, seed=0), sample_interval_ms=500)

    columns = found.over_time()
    assert len({len(values) for values in columns.values()}) == 1
    intervals = [time // 500_000_000 for time in columns["time_ns"]]
    assert intervals == sorted(set(intervals))
    assert max(columns["blocks"]) <= found.peak_blocks


def test_progress_reaches_the_end() -> None:
    """Progress counts requests that have ended, rejected ones too."""
    seen: list[tuple[int, int]] = []

    simulate(
        trace_of(request(0, 10_000, 3), request(0, 10, 3), request(1, 10, 30)),
        cache=SMALL,
        progress=lambda *at: seen.append(at),
    )

    assert seen == [(2, 3), (3, 3)]


def test_the_default_cache_is_what_fits() -> None:
    """Blocks have the size of the trace's, and fill the device."""
    trace = generate("agentic", num_requests=3, seed=0)

    cost = CostModel("h200", "llama-3-8b", block_size=64)
    assert fitting_cache(trace) == CacheConfig(num_blocks=cost.num_blocks_fitting(), block_size=64)


@pytest.mark.parametrize(("pinned_bytes", "nvme_bytes"), [(0, 0), (1 << 20, 0), (2 << 20, 1 << 30)])
def test_tiers_in_which_nothing_fits_are_refused(pinned_bytes: int, nvme_bytes: int) -> None:
    """A block of 16 tokens of this model is 2 MiB."""
    offload = OffloadConfig(pinned_bytes=pinned_bytes, nvme_bytes=nvme_bytes)
    with pytest.raises(ConfigError, match=rf"pinned_bytes is {pinned_bytes}, and a block is 2097152 bytes"):
        simulate(trace_of(), cache=CacheConfig(num_blocks=64), offload=offload)
