"""Kernels over a paged KV cache: Triton on a GPU, torch on a CPU, a plain reference beside each."""

from pagedkv.kernels.block_copy import block_copy
from pagedkv.kernels.block_staging import block_gather, block_scatter
from pagedkv.kernels.kv_write import kv_write
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode import paged_decode
from pagedkv.kernels.paged_decode_shared import SharedPrefixes, paged_decode_shared
from pagedkv.kernels.paged_prefill import paged_prefill
from pagedkv.kernels.plan import AttentionPlan
from pagedkv.kernels.workspace import Workspace

__all__ = [
    "AttentionOptions",
    "AttentionPlan",
    "SharedPrefixes",
    "Workspace",
    "block_copy",
    "block_gather",
    "block_scatter",
    "kv_write",
    "paged_decode",
    "paged_decode_shared",
    "paged_prefill",
]
