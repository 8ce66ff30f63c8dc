"""A performance test of this session, while it runs."""

from dataclasses import dataclass

import pytest

from pytest_pagedkv.baselines import Judgement, Verdict
from pytest_pagedkv.marker import PerfMark
from pytest_pagedkv.report.result import Timing

__all__ = ["BENCHMARK", "TestedBenchmark"]


@dataclass(slots=True)
class TestedBenchmark:
    """A performance test of this session.

    Attributes:
        key: its name in the baselines.
        mark: its marker.
        timing: how long it took, once it is known.
        judgement: the verdict on its counters, once there is one.
        failures: the verdicts that made it fail.
    """

    __test__ = False

    key: str
    mark: PerfMark
    timing: Timing | None = None
    judgement: Judgement | None = None
    failures: tuple[Verdict, ...] = ()


BENCHMARK = pytest.StashKey[TestedBenchmark]()
"""On the items that are performance tests."""
