"""The suite, for the class that --pagedkv-adapter names."""

from pytest_pagedkv.conformance.cache.suite import KVCacheConformance


class TestKVCache(KVCacheConformance):
    """What a paged KV cache has to keep."""
