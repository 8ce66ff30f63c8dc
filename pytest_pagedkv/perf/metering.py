"""What the fixture does with a call, besides counting its events once."""

from collections.abc import Mapping

import pytest

from pytest_pagedkv.perf.benchmark import Meter
from pytest_pagedkv.perf.cachegrind import fork_twice, instructions
from pytest_pagedkv.perf.handover import hand_over
from pytest_pagedkv.perf.meter import measure
from pytest_pagedkv.perf.meters import Call, extra_meters
from pytest_pagedkv.perf.tested import BENCHMARK
from pytest_pagedkv.state import COUNTING_FOLDER, DUET, STATE

__all__ = ["exact_counters", "meter_of"]


def meter_of(request: pytest.FixtureRequest) -> Meter | None:
    """Times a benchmark of a performance run, or repeats it for one; None for any other test."""
    config = request.config
    if BENCHMARK not in request.node.stash:
        return None
    key = request.node.stash[BENCHMARK].key
    if COUNTING_FOLDER in config.stash:
        return lambda call, _rounds, _warmup: fork_twice(config.stash[COUNTING_FOLDER], key, call)
    if DUET in config.stash:
        return config.stash[DUET].meter(request.node.stash[BENCHMARK].mark)

    def meter(call: Call, rounds: int | None, warmup: int) -> None:
        benchmark = request.node.stash[BENCHMARK]
        benchmark.is_timed = True
        timing = measure(call, metric=benchmark.mark.metric, rounds=rounds, warmup=warmup)
        benchmark.meters = _extra(request, key, call)
        benchmark.timing = timing and hand_over(request, benchmark.mark, timing)

    return meter


def _extra(request: pytest.FixtureRequest, key: str, call: Call) -> dict[str, int]:
    """What the meters say that the command line asks for."""
    wanted = request.config.stash[STATE].options.meters
    found = extra_meters(wanted, call)
    return found | ({"instructions": instructions(request, key)} if "cachegrind" in wanted else {})


def exact_counters(request: pytest.FixtureRequest, call: Call) -> Mapping[str, int]:
    """What the benchmark's marker wants to be counted besides events."""
    benchmark = request.node.stash.get(BENCHMARK, None)
    return {} if benchmark is None else extra_meters(benchmark.mark.meters, call)
