"""Collected by `pytest --pagedkv-adapter=module:Class --pyargs pytest_pagedkv.conformance`."""

from pytest_pagedkv.conformance.offload.suite import OffloadConformance


class TestOffload(OffloadConformance):
    """The tier that the command line names."""
