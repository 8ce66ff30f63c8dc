"""Correct schedulers pass."""

from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance
from tests.conformance.scheduler.reference import (
    LastInFirstOut,
    MergingScheduler,
    ReferenceScheduler,
    SwappingScheduler,
)


class TestReference(SchedulerConformance):
    """With priorities, chunks and recomputation."""

    adapter = ReferenceScheduler


class TestSwapping(SchedulerConformance):
    """With requests that start behind tokens that they have."""

    adapter = SwappingScheduler


class TestLastInFirstOut(SchedulerConformance):
    """Without fairness."""

    adapter = LastInFirstOut


class TestMerging(SchedulerConformance):
    """With a window in which batches form."""

    adapter = MergingScheduler
