"""A performance test of this session, while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from pytest_pagedkv.baselines import Judgement, Verdict
from pytest_pagedkv.baselines.timing import StoredResult
from pytest_pagedkv.marker import PerfMark
from pytest_pagedkv.report.result import Timing

__all__ = ["BENCHMARK", "TestedBenchmark"]


@dataclass(slots=True)
class TestedBenchmark:
    """A performance test of this session.

    Attributes:
        key: its name in the baselines.
        mark: its marker.
        toolchain: what compiled the kernel that it is about, such as "sm_90_triton3.7", or "".
        departure: how far a time is from what is stored, 0 if it says nothing of it.
        is_timed: it was timed, with whatever success.
        timing: how long it took, once it is known.
        judgement: the verdict on its counters, once there is one.
        stored: the verdict on its time against the stored one, once there is one.
        meters: what was measured besides.
        failures: the verdicts that made it fail.
    """

    __test__ = False

    key: str
    mark: PerfMark
    toolchain: str = ""
    departure: Callable[[Timing], float] = lambda _: 0.0
    is_timed: bool = False
    timing: Timing | None = None
    judgement: Judgement | None = None
    stored: StoredResult | None = None
    meters: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Verdict, ...] = ()


BENCHMARK = pytest.StashKey[TestedBenchmark]()
"""On the items that are performance tests."""
