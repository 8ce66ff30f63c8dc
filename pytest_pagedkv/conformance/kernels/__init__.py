"""Conformance of attention and copy kernels over a paged KV cache."""
