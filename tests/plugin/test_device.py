"""`--pagedkv-device`: where tensors are, and what becomes of benchmarks that time a GPU."""

import importlib.util

import pytest

from tests.plugin.conftest import Project

GPU = """
import pytest

@pytest.mark.pagedkv_perf(metric="cuda")
def test_kernel(pagedkv_benchmark, pagedkv_device):
    pagedkv_benchmark(lambda: None)

@pytest.mark.pagedkv_perf
def test_host(pagedkv_benchmark, pagedkv_device):
    pagedkv_benchmark(lambda: None)
    assert pagedkv_device == "cpu"
"""


def test_without_the_option_gpu_benchmarks_are_skipped(project: Project) -> None:
    """With a reason; the others run on the CPU."""
    project.write("test_gpu.py", GPU)
    result = project.perf()
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*times a GPU: runs with --pagedkv-device=cuda*"])


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is here, maybe with a GPU")
def test_a_gpu_that_is_not_there(project: Project) -> None:
    """A usage error before anything runs."""
    project.write("test_gpu.py", GPU)
    result = project.perf("--pagedkv-device=cuda")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--pagedkv-device=cuda needs torch: No module named 'torch'*"])
