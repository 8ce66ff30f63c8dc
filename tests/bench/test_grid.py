"""Which shapes are measured."""

import pytest

from pagedkv.bench.cases import KERNELS
from pagedkv.bench.grid import Choice, cases_of


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("quick", [True, False])
def test_every_kernel_is_measured(device: str, quick: bool) -> None:
    """Kernels come in their order, and no shape comes twice."""
    cases = cases_of(Choice(device=device, quick=quick))

    assert list(dict.fromkeys(case.kernel for case in cases)) == list(KERNELS)
    assert len(set(cases)) == len(cases)


def test_lists_replace_the_usual_ones() -> None:
    """Every combination is there, of the kernels that were asked for."""
    choice = Choice(
        device="cpu", kernels=["kv_write"], dtype=["fp16"], page=[8, 32], batch=[3], length=[5, 6]
    )

    found = [(case.dtype, case.page, case.batch, case.length) for case in cases_of(choice)]

    assert found == [("fp16", 8, 3, 5), ("fp16", 8, 3, 6), ("fp16", 32, 3, 5), ("fp16", 32, 3, 6)]


def test_prompts_are_prefilled_whole_and_in_chunks() -> None:
    """A prompt longer than a chunk is measured twice."""
    choice = Choice(
        device="cpu", kernels=["paged_prefill"], dtype=["fp32"], page=[16], batch=[1], length=[300, 2000]
    )

    assert [(case.length, case.query_len) for case in cases_of(choice)] == [
        (300, 300),
        (2000, 2000),
        (2000, 512),
    ]


def test_prefixes_are_whole_blocks() -> None:
    """Three quarters of the tokens are shared, rounded down to blocks; short sequences share none."""
    choice = Choice(
        device="cpu", kernels=["paged_decode_shared"], dtype=["fp32"], page=[16], batch=[2], length=[10, 100]
    )

    assert [case.prefix for case in cases_of(choice)] == [0, 64]
