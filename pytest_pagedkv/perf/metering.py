"""What the fixture does with a call, besides counting its events once."""

from collections.abc import Mapping

import pytest

from pytest_pagedkv.perf.benchmark import Meter
from pytest_pagedkv.perf.handover import hand_over
from pytest_pagedkv.perf.meter import measure
from pytest_pagedkv.perf.meters import Call, extra_meters
from pytest_pagedkv.perf.tested import BENCHMARK
from pytest_pagedkv.state import COUNTING_FOLDER, DUET, STATE

__all__ = ["exact_counters", "meter_of"]


def meter_of(request: pytest.FixtureRequest) -> Meter | None:
    """Times a benchmark of a performance run; None for any other test, and where only counters are wanted."""
    config = request.config
    if BENCHMARK not in request.node.stash or COUNTING_FOLDER in config.stash:
        return None
    if DUET in config.stash:
        return config.stash[DUET].meter(request.node.stash[BENCHMARK].mark)

    def meter(call: Call, rounds: int | None, warmup: int) -> None:
        benchmark = request.node.stash[BENCHMARK]
        benchmark.is_timed = True
        timing = measure(call, metric=benchmark.mark.metric, rounds=rounds, warmup=warmup)
        benchmark.meters = extra_meters(config.stash[STATE].options.meters, call)
        benchmark.timing = timing and hand_over(request, benchmark.mark, timing)

    return meter


def exact_counters(request: pytest.FixtureRequest, call: Call) -> Mapping[str, int]:
    """What the benchmark's marker wants to be counted besides events."""
    benchmark = request.node.stash.get(BENCHMARK, None)
    return {} if benchmark is None else extra_meters(benchmark.mark.meters, call)
