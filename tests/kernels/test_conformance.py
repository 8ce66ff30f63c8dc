"""Our kernels hold what the conformance suite asks of any engine's."""

import pytest

pytest.importorskip("torch")

from pytest_pagedkv.adapters.pagedkv_kernels import CPUKernels, TritonKernels
from pytest_pagedkv.conformance.kernels.suite import KernelConformance


class BFloat16Too(TritonKernels):
    """With the interpreter repaired (tests/kernels/interpreter.py)."""

    dtypes = ("float32", "float16", "bfloat16")


class TestCPU(KernelConformance):
    """torch on the CPU."""

    adapter = CPUKernels


class TestTriton(KernelConformance):
    """Triton: in its interpreter where there is no GPU, repaired so that it can do bfloat16."""

    adapter = BFloat16Too
