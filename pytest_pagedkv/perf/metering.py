"""What the fixture does with a call, besides counting its events once."""

from collections.abc import Callable, Mapping
from functools import partial
from time import sleep

import pytest

from pytest_pagedkv.perf.benchmark import Meter
from pytest_pagedkv.perf.cachegrind import fork_twice, instructions
from pytest_pagedkv.perf.handover import hand_over
from pytest_pagedkv.perf.meter import measure
from pytest_pagedkv.perf.meters import Call, extra_meters
from pytest_pagedkv.perf.tested import BENCHMARK
from pytest_pagedkv.report.result import Timing
from pytest_pagedkv.state import COUNTING_FOLDER, DUET, STATE

__all__ = ["exact_counters", "meter_of"]

_NUM_LOOKS = 3
_PAUSE_S = 0.4


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
        again = partial(measure, call, metric=benchmark.mark.metric, rounds=rounds)
        timing = _confirmed(again(warmup=warmup), benchmark.departure, again)
        benchmark.meters = _extra(request, key, call)
        benchmark.timing = timing and hand_over(request, benchmark.mark, timing)

    return meter


def _confirmed(
    timing: Timing | None, departure: Callable[[Timing], float], again: Callable[[], Timing | None]
) -> Timing | None:
    """A time that departs from the stored ones is taken up to three times, and the nearest counts.

    A slow moment of the machine passes, slow code stays.
    """
    nearest = timing
    for _ in range(_NUM_LOOKS - 1):
        if nearest is None or not departure(nearest):
            break
        sleep(_PAUSE_S)
        nearest = min((each for each in (again(), nearest) if each is not None), key=departure)
    return nearest


def _extra(request: pytest.FixtureRequest, key: str, call: Call) -> dict[str, int]:
    """What the meters say that the command line asks for."""
    wanted = request.config.stash[STATE].options.meters
    found = extra_meters(wanted, call)
    return found | ({"instructions": instructions(request, key)} if "cachegrind" in wanted else {})


def exact_counters(request: pytest.FixtureRequest, call: Call) -> Mapping[str, int]:
    """What the benchmark's marker wants to be counted besides events."""
    benchmark = request.node.stash.get(BENCHMARK, None)
    return {} if benchmark is None else extra_meters(benchmark.mark.meters, call)
