"""Correct kernels pass."""

import pytest

pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")

from pytest_pagedkv.conformance.kernels.suite import KernelConformance
from tests.conformance.kernels.reference import ReferenceKernels, SplitKernels


class TestReference(KernelConformance):
    """Every feature, every dtype, every layout."""

    adapter = ReferenceKernels


class TestSplit(KernelConformance):
    """The rounding of fast kernels is granted."""

    adapter = SplitKernels
