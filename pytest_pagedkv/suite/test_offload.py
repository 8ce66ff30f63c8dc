"""Blocks that go down to the host and to a file, and come back: how many, when, and who waits for them.

Scheduler, cache and tiers are the real ones on a virtual clock, so pages, waits and thrash are exact.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pagedkv.config import CacheConfig, EvictionPolicy, OffloadConfig
from pagedkv.offload.stats import OffloadStats
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.simulate.profiles import device_profile
from pagedkv.traces import Trace
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="offload")

GetTrace = Callable[..., Trace]

GIB = 2**30
NS_PER_S = 10**9
PER_MILLION = 10**6
AT_ONCE = 1e-6
"""A time scale: all requests come together, and nobody thinks."""
SERVED = (
    "busy_ns",
    "hit_tokens",
    "makespan_ns",
    "preemptions",
    "prefill_tokens",
    "prompt_tokens",
    "recomputed_tokens",
    "steps",
    "ttft_p50_ns",
    "ttft_p99_ns",
)

each_policy = pytest.mark.parametrize("policy", ["lru", "arc", "fifo"])
with_and_without_prefetch = pytest.mark.parametrize("prefetch_blocks", [0, 4096])


def first(trace: Trace, num_requests: int) -> Trace:
    """The beginning of a trace."""
    return replace(trace, requests=trace.requests[:num_requests])


def counted(result: SimulationResult) -> dict[str, int]:
    """What requests saw, and everything about pages."""
    found = result.as_dict()
    return {name: int(n) for name, n in found.items() if name in SERVED or name.startswith("offload_")}


def traffic(result: SimulationResult) -> OffloadStats:
    """What the tiers did."""
    assert result.offload is not None, "the simulation had no tiers"
    return result.offload


@each_policy
def test_thrash(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, policy: EvictionPolicy) -> None:
    """Coding agents, each of whose turns reads all before it: too many for the device and the host."""
    result = simulate(
        first(pagedkv_trace("weka_agentic_60sessions"), 40),
        cache=CacheConfig(num_blocks=3000, block_size=64),
        offload=OffloadConfig(pinned_bytes=12 * GIB, nvme_bytes=48 * GIB, policy=policy),
        time_scale=0.1,
    )
    pagedkv_benchmark.record(**counted(result))


@each_policy
def test_thrash_of_generated_agents(
    pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, policy: EvictionPolicy
) -> None:
    """Likewise, where no trace is at hand."""
    result = simulate(
        pagedkv_trace("generated:agentic", num_requests=60, max_prompt_tokens=60_000),
        cache=CacheConfig(num_blocks=1000, block_size=64),
        offload=OffloadConfig(pinned_bytes=3 * GIB, nvme_bytes=16 * GIB, policy=policy),
        time_scale=AT_ONCE,
    )
    pagedkv_benchmark.record(**counted(result))


@with_and_without_prefetch
def test_oscillation(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, prefetch_blocks: int) -> None:
    """Conversations that preempt each other: blocks go out, and are soon wanted again."""
    result = simulate(
        pagedkv_trace("generated:chat", num_requests=150),
        cache=CacheConfig(num_blocks=500),
        offload=OffloadConfig(pinned_bytes=2 * GIB, prefetch_blocks=prefetch_blocks),
        device="a100",
        time_scale=0.1,
    )
    pagedkv_benchmark.record(**counted(result))


@with_and_without_prefetch
def test_overlap(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, prefetch_blocks: int) -> None:
    """There is always something to compute: time without a step is time that nobody's step hides.

    `copying_ns` is what the device's link and the disks need for what came back.
    """
    device = device_profile("h200")
    result = simulate(
        pagedkv_trace("generated:agentic", num_requests=60, max_prompt_tokens=60_000),
        cache=CacheConfig(num_blocks=1000, block_size=64),
        offload=OffloadConfig(pinned_bytes=2 * GIB, nvme_bytes=24 * GIB, prefetch_blocks=prefetch_blocks),
        device=device,
        time_scale=AT_ONCE,
    )
    moved = traffic(result).num_bytes
    copying_ns = (
        moved["page_in"] * NS_PER_S // device.reached_link_bytes_per_s
        + moved["fetch"] * NS_PER_S // device.disk_read_bytes_per_s
    )
    idle_ns = result.makespan_ns - result.busy_ns
    hidden_ppm = PER_MILLION - PER_MILLION * idle_ns // copying_ns
    pagedkv_benchmark.record(**counted(result), idle_ns=idle_ns, copying_ns=copying_ns, hidden_ppm=hidden_ppm)


def test_prefetch(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace) -> None:
    """Long conversations that were pushed out by others come back: most do not wait for their pages."""
    trace = first(pagedkv_trace("mooncake_conversation"), 700)
    without, ahead = (
        simulate(trace, offload=OffloadConfig(prefetch_blocks=num_blocks), num_devices=2)
        for num_blocks in (0, OffloadConfig().prefetch_blocks)
    )
    pagedkv_benchmark.record(
        **counted(ahead), **{f"without_{name}": n for name, n in counted(without).items()}
    )
    num_in_time, num_late = traffic(ahead).num_in_time, traffic(ahead).num_late
    late_ns, all_ns = traffic(ahead).awaited_ns, traffic(without).awaited_ns
    assert num_in_time >= 4 * num_late, f"{num_in_time} pages were in time, {num_late} late"
    assert 2 * late_ns <= all_ns, f"requests wait {late_ns} ns, and {all_ns} without prefetch"
