"""What the compiler makes of our kernels, for two architectures and without a GPU.

The figures are compared with `perf_baselines/kernels`; what is asserted here holds for every one of them.
"""

import pytest

from pytest_pagedkv.compiler import Resources


@pytest.mark.pagedkv_compiled("pagedkv.kernels.variants:representative", archs=(80, 90))
def test_compiled(pagedkv_compiled: Resources) -> None:
    """It can be launched, spills nothing, loads 128 bits at once, and uses the tensor cores it should."""
    check(pagedkv_compiled)


def check(figures: Resources) -> None:
    """Assert what holds for every kernel of ours."""
    assert figures.excesses == ()
    assert figures.spill_bytes == 0
    assert figures.stack_bytes == 0
    assert figures.wide_loads > 0
    if figures.kernel in ("decode_kernel", "prefix_kernel", "prefill_kernel"):
        check_products(figures)


def check_products(figures: Resources) -> None:
    """16-bit products are for tensor cores, in Hopper's prefill of warp groups; float32 ones are exact."""
    if "-fp32-" in figures.variant:
        assert figures.tensor_core == 0
    elif figures.kernel == "prefill_kernel" and figures.arch >= 90:
        assert (figures.hmma, figures.hgmma > 0) == (0, True)
    else:
        assert figures.tensor_core > 0  # Hopper's warp groups take 64 rows, which long drafts have
