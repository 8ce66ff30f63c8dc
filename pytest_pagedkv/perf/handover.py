"""The samples for pytest-benchmark's tables and JSON, through its public fixture and marker.

It measures with the timer it is given. Ours is a virtual clock that moves by a measured sample at each call,
so that both reports show the same numbers and nothing is timed twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_pagedkv.marker import PerfMark
from pytest_pagedkv.report.result import Timing

__all__ = ["hand_over"]

_NS_PER_S = 1e9


class _ReplayedTime:
    """Virtual time in seconds: each call of `advance` takes as long as one did when it was measured."""

    def __init__(self, samples_ns: Sequence[float]) -> None:
        self._samples = iter(samples_ns)
        self._now_s = 0.0

    def advance(self) -> None:
        self._now_s += next(self._samples, 0.0) / _NS_PER_S

    def measured_time(self) -> float:
        return self._now_s


def hand_over(request: pytest.FixtureRequest, mark: PerfMark, timing: Timing) -> Timing:
    """Give the samples to pytest-benchmark, and say in `shared` whether it has them."""
    reason = _absent(request.config)
    if reason is None and "benchmark" in request.fixturenames:
        reason = "the test uses its fixture itself"
    return replace(timing, shared=_replayed(request, mark, timing) if reason is None else reason)


def _replayed(request: pytest.FixtureRequest, mark: PerfMark, timing: Timing) -> str | None:
    from pytest_benchmark.fixture import BenchmarkFixture

    time = _ReplayedTime(timing.samples_ns)
    request.node.add_marker(_marker(request.node, mark, time), append=False)
    benchmark: Any = request.getfixturevalue("benchmark")
    if not isinstance(benchmark, BenchmarkFixture):
        return "its fixture is overridden by another plugin"
    pedantic: Any = benchmark.pedantic
    pedantic(time.advance, rounds=len(timing.samples_ns))
    return None if benchmark.enabled else "it is disabled"


def _absent(config: pytest.Config) -> str | None:
    if not config.pluginmanager.hasplugin("pytest-benchmark"):
        return "it is not loaded"
    if config.getoption("benchmark_skip", default=False):
        return "it skips everything (--benchmark-skip)"
    if hasattr(config, "workerinput"):
        return "pytest-xdist switches it off"
    return None


def _marker(node: pytest.Item, mark: PerfMark, time: _ReplayedTime) -> pytest.MarkDecorator:
    """The test's own benchmark marker, with our timer, and our group where the test names one."""
    closest = node.get_closest_marker("benchmark")
    arguments: dict[str, Any] = dict(closest.kwargs) if closest else {}
    if mark.group is not None:
        arguments["group"] = mark.group
    marker: pytest.MarkDecorator = pytest.mark.benchmark(**arguments | {"timer": time.measured_time})
    return marker
