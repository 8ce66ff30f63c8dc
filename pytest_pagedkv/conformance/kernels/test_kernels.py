"""Collected by `pytest --pagedkv-adapter=module:Class --pyargs pytest_pagedkv.conformance`."""

from pytest_pagedkv.conformance.kernels.suite import KernelConformance


class TestKernels(KernelConformance):
    """The kernels that the command line names."""
