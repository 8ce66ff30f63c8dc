"""The fixtures. What they need is imported when a test asks for them."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pagedkv.marker import healthy_mark
from pytest_pagedkv.state import STATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pagedkv import BlockManager
    from pagedkv.clock import VirtualClock
    from pagedkv.engine import Engine
    from pagedkv.traces import Trace
    from pytest_pagedkv.adapter import Adapter
    from pytest_pagedkv.compiler import Resources
    from pytest_pagedkv.health import Findings
    from pytest_pagedkv.perf.benchmark import Benchmark
    from pytest_pagedkv.perf.recorder import Recorder
    from pytest_pagedkv.perf.traces import Traces

__all__ = [
    "pagedkv_adapter",
    "pagedkv_benchmark",
    "pagedkv_cache",
    "pagedkv_clock",
    "pagedkv_compiled",
    "pagedkv_device",
    "pagedkv_engine",
    "pagedkv_findings",
    "pagedkv_seed",
    "pagedkv_trace",
]


@pytest.fixture
def _pagedkv_recorder(request: pytest.FixtureRequest) -> "Recorder":
    from pytest_pagedkv.perf.recorder import RECORDER, Recorder

    recorder = request.node.stash[RECORDER] = Recorder()
    return recorder


@pytest.fixture
def pagedkv_benchmark(request: pytest.FixtureRequest, _pagedkv_recorder: "Recorder") -> "Benchmark":
    """Counts one call of a function exactly, then times it: `pagedkv_benchmark(fn, setup=...)`."""
    from pytest_pagedkv.perf.benchmark import Benchmark
    from pytest_pagedkv.perf.metering import exact_counters, meter_of

    return Benchmark(_pagedkv_recorder, meter_of(request), partial(exact_counters, request))


@pytest.fixture
def pagedkv_compiled(request: pytest.FixtureRequest, _pagedkv_recorder: "Recorder") -> "Resources":
    """The figures of the kernel that this test is about; see the marker of the same name."""
    from pytest_pagedkv.perf.compiled import compiled_resources

    return compiled_resources(request)


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


@pytest.fixture
def pagedkv_clock() -> "VirtualClock":
    """A clock that stands at 0 until it is told to advance; the one of `pagedkv_engine`."""
    from pagedkv.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def pagedkv_findings(request: pytest.FixtureRequest) -> "Iterator[Findings]":
    """What detectors find in this test's engines, as a list that is up to date whenever it is asked.

    Engines of `pagedkv_engine` are watched by themselves, others by `pagedkv_findings.watch(engine)`.
    """
    from pytest_pagedkv.health import WATCH, findings_for

    findings = request.node.stash[WATCH] = findings_for(request.node)
    yield findings
    findings.stop()


@pytest.fixture
def _pagedkv_watched(request: pytest.FixtureRequest) -> "Findings | None":
    """What watches this test's engines, if anybody wants to know."""
    is_wanted = "pagedkv_findings" in request.fixturenames or healthy_mark(request.node) is not None
    findings: Findings | None = request.getfixturevalue("pagedkv_findings") if is_wanted else None
    return findings


@pytest.fixture
def pagedkv_engine(
    _pagedkv_recorder: "Recorder", _pagedkv_watched: "Findings | None", pagedkv_clock: "VirtualClock"
) -> "Iterator[Callable[..., Engine]]":
    """Makes engines on a virtual clock, `pagedkv_engine(num_blocks=64, policy="lifo", device="l4")`.

    They take the settings of caches and schedulers; device, model and seed of the simulation. At the end they
    are closed, and it is checked that the books balance and that every block has come home.
    """
    from pytest_pagedkv.perf.engines import WatchedEngine, simulated_engine

    def make(*, device: str = "h200", model: str = "llama-3-8b", seed: int = 0, **settings: Any) -> "Engine":
        engine = simulated_engine(pagedkv_clock, settings, device=device, model=model, seed=seed)
        _pagedkv_recorder.watch(WatchedEngine(engine))
        if _pagedkv_watched is not None and not _pagedkv_recorder.is_timing:
            _pagedkv_watched.watch(engine)
        return engine

    yield make
    for watched in _pagedkv_recorder.caches:
        watched.check_integrity()


@pytest.fixture(scope="session")
def pagedkv_device(request: pytest.FixtureRequest) -> str:
    """Where this run's tensors are to be, "cpu" or "cuda", from --pagedkv-device."""
    return request.config.stash[STATE].options.device


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
