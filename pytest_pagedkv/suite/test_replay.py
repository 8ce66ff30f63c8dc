"""Real and generated traffic through the cache, at a pool that is tight and one that is not."""

from collections.abc import Callable

import pytest

from pagedkv.replay import ReplayResult, replay_fcfs, replay_fork, replay_sequential
from pagedkv.traces import Trace
from pytest_pagedkv.perf.benchmark import Benchmark

pytestmark = pytest.mark.pagedkv_perf(group="replay")

GetTrace = Callable[..., Trace]


def measure(benchmark: Benchmark, replay: Callable[[], ReplayResult], rounds: int | None = 1) -> None:
    """Replay once for the counters and, by default, once for the clock."""
    result = benchmark(replay, rounds=rounds, warmup=0)
    benchmark.record(**{name: n for name, n in result.as_dict().items() if type(n) is int})


@pytest.mark.parametrize("num_blocks", [1000, 8000])
@pytest.mark.parametrize("name", ["mooncake_arxiv_first1000", "mooncake_conversation"])
def test_chat(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, name: str, num_blocks: int) -> None:
    """Prefix caching of shared documents and conversations, blocks of 512 tokens."""
    trace = pagedkv_trace(name)
    measure(pagedkv_benchmark, lambda: replay_sequential(trace, num_blocks))


@pytest.mark.parametrize("num_blocks", [8000, 64_000])
def test_agents(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, num_blocks: int) -> None:
    """Coding agents with long, growing prompts: the order of release decides what is left to hit."""
    trace = pagedkv_trace("weka_agentic_60sessions")
    measure(pagedkv_benchmark, lambda: replay_sequential(trace, num_blocks))


@pytest.mark.parametrize("num_blocks", [2000, 8000])
def test_bursts(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, num_blocks: int) -> None:
    """Requests in bursts wait for blocks, first come first served."""
    trace = pagedkv_trace("azure2023_code", prefix_model=None)
    measure(pagedkv_benchmark, lambda: replay_fcfs(trace, num_blocks))


@pytest.mark.parametrize("num_blocks", [500, 4000])
def test_samples(pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, num_blocks: int) -> None:
    """Every prompt of a chat service is sampled four times; samples share its blocks until they write."""
    trace = pagedkv_trace("azure2023_conv", prefix_model=None)
    measure(pagedkv_benchmark, lambda: replay_fork(trace, 4, num_blocks))


@pytest.mark.parametrize(
    ("preset", "num_blocks"), [("chat", 1000), ("chat", 10_000), ("agentic", 4000), ("agentic", 40_000)]
)
def test_generated(
    pagedkv_benchmark: Benchmark, pagedkv_trace: GetTrace, preset: str, num_blocks: int
) -> None:
    """Seeded traffic, where no trace is at hand."""
    trace = pagedkv_trace(f"generated:{preset}", num_requests=300)
    rounds = None if preset == "chat" else 1
    measure(pagedkv_benchmark, lambda: replay_sequential(trace, num_blocks), rounds)
