"""Kernels over a paged KV cache: Triton on a GPU, torch on a CPU, a plain reference beside each."""

from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode import paged_decode
from pagedkv.kernels.workspace import Workspace

__all__ = ["AttentionOptions", "Workspace", "paged_decode"]
