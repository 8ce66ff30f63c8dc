"""Collected by `pytest --pagedkv-adapter=module:Class --pyargs pytest_pagedkv.conformance`."""

from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance


class TestScheduler(SchedulerConformance):
    """The scheduler that the command line names."""
