"""The full grid of `test_compiled_kernels.py`; not collected unless it is named.

pytest --pagedkv-perf tests/perf/every_compiled_kernel.py -k "dim128 and sm_90"
"""

import pytest

from pytest_pagedkv.compiler import Resources
from tests.perf.test_compiled_kernels import check


@pytest.mark.pagedkv_compiled("pagedkv.kernels.variants:every", archs=(80, 90))
def test_compiled(pagedkv_compiled: Resources) -> None:
    """What holds for the representative ones holds for all."""
    check(pagedkv_compiled)
