"""The fixtures. What they need is imported when a test asks for them."""

from typing import TYPE_CHECKING, Any

import pytest

from pytest_pagedkv.state import COUNTING_FOLDER, DUET, STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedkv import BlockManager
    from pagedkv.traces import Trace
    from pytest_pagedkv.adapter import Adapter
    from pytest_pagedkv.perf.benchmark import Benchmark, Meter
    from pytest_pagedkv.perf.meter import Call
    from pytest_pagedkv.perf.recorder import Recorder
    from pytest_pagedkv.perf.traces import Traces

__all__ = ["pagedkv_adapter", "pagedkv_benchmark", "pagedkv_cache", "pagedkv_seed", "pagedkv_trace"]


@pytest.fixture
def _pagedkv_recorder(request: pytest.FixtureRequest) -> "Recorder":
    from pytest_pagedkv.perf.recorder import RECORDER, Recorder

    recorder = request.node.stash[RECORDER] = Recorder()
    return recorder


@pytest.fixture
def pagedkv_benchmark(request: pytest.FixtureRequest, _pagedkv_recorder: "Recorder") -> "Benchmark":
    """Counts one call of a function exactly, then times it: `pagedkv_benchmark(fn, setup=...)`."""
    from pytest_pagedkv.perf.benchmark import Benchmark

    return Benchmark(_pagedkv_recorder, _meter(request))


def _meter(request: pytest.FixtureRequest) -> "Meter | None":
    """Times a benchmark of a performance run; None for any other test, and where only counters are wanted."""
    from pytest_pagedkv.perf.handover import hand_over
    from pytest_pagedkv.perf.meter import measure
    from pytest_pagedkv.perf.tested import BENCHMARK

    config = request.config
    if BENCHMARK not in request.node.stash or COUNTING_FOLDER in config.stash:
        return None
    if DUET in config.stash:
        return config.stash[DUET].meter(request.node.stash[BENCHMARK].mark)

    def meter(call: "Call", rounds: int | None, warmup: int) -> None:
        benchmark = request.node.stash[BENCHMARK]
        timing = measure(call, metric=benchmark.mark.metric, rounds=rounds, warmup=warmup)
        benchmark.timing = hand_over(request, benchmark.mark, timing)

    return meter


@pytest.fixture
def pagedkv_cache(_pagedkv_recorder: "Recorder") -> "Iterator[Callable[..., BlockManager]]":
    """Makes caches, `pagedkv_cache(num_blocks=1024)`, and checks at the end that their books balance."""
    from pagedkv import BlockManager, CacheConfig

    def make(**settings: Any) -> BlockManager:
        cache = BlockManager(CacheConfig(**settings))
        _pagedkv_recorder.watch(cache)
        return cache

    yield make
    for cache in _pagedkv_recorder.caches:
        cache.check_integrity()


@pytest.fixture(scope="session")
def pagedkv_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run's workloads, from --pagedkv-seed."""
    return request.config.stash[STATE].options.seed


@pytest.fixture(scope="session")
def _pagedkv_traces(request: pytest.FixtureRequest, pagedkv_seed: int) -> "Traces":
    from pytest_pagedkv.perf.traces import Traces

    config = request.config
    return Traces(config.stash[STATE], config.invocation_params.dir, pagedkv_seed)


@pytest.fixture
def pagedkv_trace(_pagedkv_traces: "Traces") -> "Callable[..., Trace]":
    """Gives traces by name, such as "azure2023_code" (a file) and "generated:chat"."""
    return _pagedkv_traces.get


@pytest.fixture
def pagedkv_adapter(request: pytest.FixtureRequest) -> "type[Adapter]":
    """The adapter class that a conformance suite tests: its `adapter`, or that of --pagedkv-adapter."""
    from pytest_pagedkv.conformance.loading import adapter_of

    return adapter_of(request)
