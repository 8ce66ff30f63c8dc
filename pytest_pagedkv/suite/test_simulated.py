"""Real and generated traffic through scheduler and cache on a virtual clock: latencies without noise.

Every counter is exact on any machine: batch sizes, virtual nanoseconds, preemptions, tokens computed again,
and fragmentation over time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.simulate import SimulationResult, simulate
from pagedkv.traces import Trace
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="simulated")

GetTrace = Callable[..., Trace]

_TIMES_LOOKED_AT = 10


def measure(benchmark: Benchmark, trace: Trace, **how: Any) -> None:
    """Simulate once for the counters and once for the clock."""
    result: SimulationResult = benchmark(lambda: simulate(trace, **how), rounds=1, warmup=0)
    counts = {name: n for name, n in result.as_dict().items() if type(n) is int}
    benchmark.record(**counts, **over_time("fragmentation_ppm", result.series.fragmentation_ppm))


def over_time(name: str, values: Sequence[int]) -> dict[str, int]:
    """A series at the ends of ten equal parts of it."""
    last = len(values) - 1
    places = [last * part // _TIMES_LOOKED_AT for part in range(1, _TIMES_LOOKED_AT + 1)]
    return {f"{name}_at_{part:02}0": values[place] for part, place in enumerate(places, 1)}


def first(trace: Trace, num_requests: int) -> Trace:
    """The beginning of a trace."""
    return replace(trace, requests=trace.requests[:num_requests])


def pool(num_blocks: int, block_size: int = 16, *, prefix_caching: bool = True) -> CacheConfig:
    """A cache of this size."""
    return CacheConfig(num_blocks=num_blocks, block_size=block_size, prefix_caching=prefix_caching)


@pytest.mark.parametrize("policy", ["fcfs", "lifo"])
def test_bursts(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, policy: str) -> None:
    """Code completions come in bursts, and the batch collapses in between."""
    trace = first(pagedkv_trace("azure2023_code", prefix_model=None), 3000)
    measure(
        pagedkv_benchmark,
        trace,
        cache=pool(3000, prefix_caching=False),
        scheduler=SchedulerConfig(policy=policy),  # type: ignore[arg-type]
        device="a100",
    )


def test_conversations(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace) -> None:
    """Long prompts that share documents, on two devices that are almost busy."""
    trace = first(pagedkv_trace("mooncake_conversation"), 2000)
    measure(pagedkv_benchmark, trace, cache=pool(900, 512), device="h200", num_devices=2)


@pytest.mark.parametrize(
    ("preset", "num_requests", "num_blocks", "settings"),
    [
        ("chat", 300, 800, {}),
        ("chat", 300, 2000, {"batch_merge_window_ms": 50.0}),
        ("bursty", 300, 1200, {}),
        ("bursty", 300, 1200, {"length_buckets": (512, 2048)}),
        ("samples", 60, 1000, {}),
        ("samples", 60, 1000, {"adaptive_batch_size": True}),
        ("beams", 25, 400, {}),
    ],
    ids=lambda value: "-".join(value) or "usual" if isinstance(value, dict) else None,
)
def test_generated(
    pagedkv_benchmark: Benchmark,
    pagedkv_trace: GetTrace,
    preset: str,
    num_requests: int,
    num_blocks: int,
    settings: dict[str, Any],
) -> None:
    """Seeded traffic at ten times its usual rate in a tight pool, where no trace is at hand."""
    trace = pagedkv_trace(f"generated:{preset}", num_requests=num_requests)
    measure(
        pagedkv_benchmark,
        trace,
        cache=pool(num_blocks),
        scheduler=SchedulerConfig(**settings),
        device="a100",
        time_scale=0.1,
    )
