"""pagedkv's own kernels: on the CPU, and in Triton on a GPU or in Triton's interpreter."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_pagedkv.conformance.kernels.adapter import (
    AttentionOptions,
    KernelAdapter,
    KernelFeature,
    Layout,
)

if TYPE_CHECKING:
    import torch

    from pagedkv import kernels

__all__ = ["CPUKernels", "TritonKernels"]

_FEATURES = (
    KernelFeature.PAGED_DECODE
    | KernelFeature.PAGED_PREFILL
    | KernelFeature.KV_WRITE
    | KernelFeature.BLOCK_COPY
    | KernelFeature.BLOCK_STAGING
    | KernelFeature.GQA
    | KernelFeature.SLIDING_WINDOW
    | KernelFeature.SOFT_CAP
    | KernelFeature.SINKS
    | KernelFeature.FP8
)


def _ours(options: AttentionOptions) -> "kernels.AttentionOptions":
    from pagedkv import kernels

    return kernels.AttentionOptions(
        scale=options.scale,
        sliding_window=options.sliding_window,
        soft_cap=options.soft_cap,
        sinks=options.sinks,
        k_scale=options.k_scale,
        v_scale=options.v_scale,
    )


class CPUKernels(KernelAdapter):
    """The public functions, with tensors on the CPU."""

    features = _FEATURES
    dtypes: ClassVar[Sequence[str]] = ("float32", "float16", "bfloat16")
    layouts = tuple(Layout)
    block_sizes: ClassVar[Sequence[int]] = (1, 4, 8, 16)
    head_dims: ClassVar[Sequence[int]] = (8, 64, 80)
    gqa_ratios = (1, 2, 3, 4)
    query_lens = (1, 2, 5)

    def __init__(self) -> None:
        from pagedkv.kernels import Workspace

        self._workspace = Workspace(self.device)

    def paged_decode(
        self,
        query: "torch.Tensor",
        kv: "torch.Tensor",
        block_tables: "torch.Tensor",
        seq_lens: "torch.Tensor",
        out: "torch.Tensor",
        options: AttentionOptions,
    ) -> None:
        """Decode."""
        from pagedkv import kernels

        self._call(
            kernels.paged_decode, query, kv, block_tables, seq_lens, _ours(options), out=out, **self._scratch
        )

    def paged_prefill(
        self,
        query: "torch.Tensor",
        query_starts: "torch.Tensor",
        kv: "torch.Tensor",
        block_tables: "torch.Tensor",
        seq_lens: "torch.Tensor",
        out: "torch.Tensor",
        options: AttentionOptions,
    ) -> None:
        """Prefill."""
        from pagedkv import kernels

        self._call(
            kernels.paged_prefill,
            query,
            query_starts,
            kv,
            block_tables,
            seq_lens,
            _ours(options),
            out=out,
            **self._scratch,
        )

    def kv_write(
        self,
        key: "torch.Tensor",
        value: "torch.Tensor",
        kv: "torch.Tensor",
        slot_mapping: "torch.Tensor",
        k_scale: float,
        v_scale: float,
    ) -> None:
        """Write."""
        from pagedkv import kernels
        from pagedkv.kv_store import KVScales

        self._call(kernels.kv_write, key, value, kv, slot_mapping, scales=KVScales(k_scale, v_scale))

    def block_copy(self, kvs: "Sequence[torch.Tensor]", copies: "torch.Tensor") -> None:
        """Copy."""
        from pagedkv import kernels
        from pagedkv.kv_store import KVLayers

        self._call(kernels.block_copy, KVLayers(kvs), copies)

    def block_gather(
        self, kvs: "Sequence[torch.Tensor]", block_ids: "torch.Tensor", staging: "torch.Tensor"
    ) -> None:
        """Gather."""
        from pagedkv import kernels
        from pagedkv.kv_store import KVLayers

        self._call(kernels.block_gather, KVLayers(kvs), block_ids, staging)

    def block_scatter(
        self, staging: "torch.Tensor", kvs: "Sequence[torch.Tensor]", block_ids: "torch.Tensor"
    ) -> None:
        """Scatter."""
        from pagedkv import kernels
        from pagedkv.kv_store import KVLayers

        self._call(kernels.block_scatter, staging, KVLayers(kvs), block_ids)

    @property
    def _scratch(self) -> dict[str, Any]:
        """Arguments of attention that are not a case's: one workspace for all calls."""
        return {"workspace": self._workspace}

    def _call(self, kernel: Any, *args: Any, **options: Any) -> None:
        kernel(*args, **options)


class TritonKernels(CPUKernels):
    """The Triton kernels: compiled where there is a GPU, and else, with TRITON_INTERPRET=1, interpreted.

    The interpreter computes in bfloat16 wrongly, so that only a GPU tests that.
    """

    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    dtypes = ("float32", "float16") if device == "cpu" else ("float32", "float16", "bfloat16")
    block_sizes = (8, 16, 64)
    head_dims = (64, 80)
    max_batch = 3
    max_seq_len = 110 if device == "cpu" else 4000
    max_pool_bytes = 9 << 30
    case_share = 0.12 if device == "cpu" else 1.0

    @classmethod
    def unavailable(cls) -> str:
        """Triton, and something to run it on."""
        try:
            import torch
            import triton  # noqa: F401  (whether it is there)
        except ImportError as error:
            return f"Triton kernels need the extra pagedkv[torch]: {error}"
        if cls.device == "cuda" and not torch.cuda.is_available():
            return "Triton kernels run on a GPU, and with TRITON_INTERPRET=1 without one; neither is there"
        return ""

    def _call(self, kernel: Any, *args: Any, **options: Any) -> None:
        import numpy as np

        from pagedkv.kernels.dispatch import using

        with using("gpu"), np.errstate(over="ignore", divide="ignore"):  # infinities are meant, as on a GPU
            kernel(*args, **options)
