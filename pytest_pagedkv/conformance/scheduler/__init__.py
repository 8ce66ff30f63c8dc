"""Conformance of schedulers over a paged KV cache."""
