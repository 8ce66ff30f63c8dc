"""Our kernels hold what the conformance suite asks of any engine's."""

from typing import Any

import pytest

pytest.importorskip("torch")

from pytest_pagedkv.adapters.pagedkv_kernels import CPUKernels, TritonKernels
from pytest_pagedkv.conformance.kernels.adapter import KernelFeature
from pytest_pagedkv.conformance.kernels.suite import KernelConformance


class BFloat16Too(TritonKernels):
    """With the interpreter repaired (tests/kernels/interpreter.py)."""

    dtypes = ("float32", "float16", "bfloat16")
    case_share = TritonKernels.case_share / 2


class Split(BFloat16Too):
    """Decode in splits of a tile each, which the interpreter's short sequences are not worth."""

    features = BFloat16Too.features & ~(
        KernelFeature.PAGED_PREFILL
        | KernelFeature.KV_WRITE
        | KernelFeature.BLOCK_COPY
        | KernelFeature.BLOCK_STAGING
    )
    case_share = BFloat16Too.case_share / 2

    @property
    def _scratch(self) -> dict[str, Any]:
        return super()._scratch | {"split_size": 1}


class FewerCases(CPUKernels):
    """tests/kernels compares them with float64, too."""

    case_share = 0.5


class TestCPU(KernelConformance):
    """torch on the CPU."""

    adapter = FewerCases


class TestTriton(KernelConformance):
    """Triton: in its interpreter where there is no GPU, repaired so that it can do bfloat16."""

    adapter = BFloat16Too


class TestSplits(KernelConformance):
    """Triton's decode, split and merged."""

    adapter = Split
