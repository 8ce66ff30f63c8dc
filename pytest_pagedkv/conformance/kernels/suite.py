"""The suite: subclass it, and name the adapter."""

from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from pytest_pagedkv.adapter import Adapter, KnownFailure
from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter, KernelFeature
from pytest_pagedkv.conformance.kernels.cases import (
    attention_cases,
    copy_cases,
    staging_cases,
    write_cases,
)
from pytest_pagedkv.conformance.searching import check_known, reporting, search

__all__ = ["KernelConformance"]

_ATTENTION = ("PAGED_DECODE", "PAGED_PREFILL")
_VARIANTS = ("NONE", "GQA", "SLIDING_WINDOW", "SOFT_CAP", "SINKS", "FP8")
_OPTIONS = KernelFeature.GQA | KernelFeature.SLIDING_WINDOW | KernelFeature.SOFT_CAP | KernelFeature.SINKS


def _need(adapter: type[KernelAdapter], *names: str) -> None:
    for name in names:
        if KernelFeature[name] not in adapter.features:
            pytest.skip(f"{adapter.__name__} has no {name}")


class KernelConformance:
    """Tests of attention and copy kernels over a paged KV cache, against float64.

    Subclass it in a test file, `class TestMine(KernelConformance): adapter = MyKernels`, or give the adapter
    on the command line. How many cases are tried follows the Hypothesis profile.

    Attributes:
        adapter_type: what an adapter has to be.
        adapter: the kernels that are tested; None for those of --pagedkv-adapter.
    """

    adapter_type: ClassVar[type[Adapter]] = KernelAdapter
    adapter: ClassVar[type[KernelAdapter] | None] = None

    @pytest.fixture(autouse=True)
    def _torch(self, pagedkv_adapter: type[KernelAdapter]) -> Iterator[None]:
        torch = pytest.importorskip("torch", reason="kernels work on torch tensors; torch is not installed")
        before = torch.get_num_threads()
        torch.set_num_threads(pagedkv_adapter.num_threads)
        yield
        torch.set_num_threads(before)

    @pytest.mark.parametrize("variant", _VARIANTS)
    @pytest.mark.parametrize("kernel", _ATTENTION)
    def test_attention(self, pagedkv_adapter: type[KernelAdapter], kernel: str, variant: str) -> None:
        """Each sequence of a ragged batch attends to its own tokens, all of them and nothing else."""
        _need(pagedkv_adapter, kernel, variant)
        self._search_attention(pagedkv_adapter, kernel, KernelFeature[variant])

    @pytest.mark.parametrize("kernel", _ATTENTION)
    def test_options_together(self, pagedkv_adapter: type[KernelAdapter], kernel: str) -> None:
        """All that attention can do besides is right together."""
        _need(pagedkv_adapter, kernel)
        self._search_attention(pagedkv_adapter, kernel, pagedkv_adapter.features & _OPTIONS)

    def _search_attention(self, adapter: type[KernelAdapter], kernel: str, features: KernelFeature) -> None:
        from pytest_pagedkv.conformance.kernels.attention import check_attention

        made, method = adapter(), kernel.lower()
        cases = attention_cases(adapter, method, features)
        with reporting(adapter):
            test = f"{method}/{features}"
            search(
                lambda case: check_attention(made, case), cases, adapter, test, share=0.5 * adapter.case_share
            )

    def test_far_blocks(self, pagedkv_adapter: type[KernelAdapter]) -> None:
        """Blocks at offsets beyond 32 bits are read where they are."""
        from pytest_pagedkv.conformance.kernels.far import check_far_blocks, needed_bytes

        _need(pagedkv_adapter, "PAGED_DECODE")
        if (needed := needed_bytes(pagedkv_adapter)) > pagedkv_adapter.max_pool_bytes:
            most = pagedkv_adapter.max_pool_bytes
            pytest.skip(f"it allocates {needed / 2**30:g} GiB, and max_pool_bytes is {most / 2**30:g} GiB")
        with reporting(pagedkv_adapter):
            check_far_blocks(pagedkv_adapter())

    @pytest.mark.parametrize("variant", ["NONE", "FP8"])
    def test_kv_write(self, pagedkv_adapter: type[KernelAdapter], variant: str) -> None:
        """Each token's key and value are in its slot, and nowhere else."""
        from pytest_pagedkv.conformance.kernels.writes import check_kv_write

        _need(pagedkv_adapter, "KV_WRITE", variant)
        made = pagedkv_adapter()
        cases = write_cases(pagedkv_adapter, KernelFeature[variant])
        with reporting(pagedkv_adapter):
            test = f"kv_write/{variant}"
            search(
                lambda case: check_kv_write(made, case),
                cases,
                pagedkv_adapter,
                test,
                pagedkv_adapter.case_share,
            )

    @pytest.mark.parametrize("order", ["any", "given"])
    def test_block_copy(self, pagedkv_adapter: type[KernelAdapter], order: str) -> None:
        """Every layer's blocks are copied by one call, as if one after another."""
        from pytest_pagedkv.conformance.kernels.copies import check_block_copy

        is_ordered = order == "given"
        _need(pagedkv_adapter, "BLOCK_COPY", "ORDERED_COPIES" if is_ordered else "NONE")
        made = pagedkv_adapter()
        cases = copy_cases(pagedkv_adapter, ordered=is_ordered)
        with reporting(pagedkv_adapter):
            test = f"block_copy/{order}"
            search(
                lambda case: check_block_copy(made, case),
                cases,
                pagedkv_adapter,
                test,
                pagedkv_adapter.case_share,
            )

    def test_block_staging(self, pagedkv_adapter: type[KernelAdapter]) -> None:
        """Gathered blocks come back as they were."""
        from pytest_pagedkv.conformance.kernels.copies import check_block_staging

        _need(pagedkv_adapter, "BLOCK_STAGING")
        made, cases = pagedkv_adapter(), staging_cases(pagedkv_adapter)
        with reporting(pagedkv_adapter):
            share = pagedkv_adapter.case_share
            search(
                lambda case: check_block_staging(made, case), cases, pagedkv_adapter, "block_staging", share
            )

    def test_known_failures(self, pagedkv_adapter: type[KernelAdapter]) -> None:
        """Every known failure is still there; a note about one that is gone has to go too."""
        from pytest_pagedkv.conformance.kernels.attention import check_attention
        from pytest_pagedkv.conformance.kernels.copies import check_block_copy, check_block_staging
        from pytest_pagedkv.conformance.kernels.writes import check_kv_write

        checks = (check_attention, check_kv_write, check_block_copy, check_block_staging)
        by_name: dict[str, Callable[..., None]] = {check.__name__: check for check in checks}

        def run(known: KnownFailure) -> None:
            for name, case in known.program:
                by_name[name](pagedkv_adapter(), case)

        check_known(pagedkv_adapter, run)
