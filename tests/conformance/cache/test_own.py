"""Our own caches keep the contract."""

from pytest_pagedkv.adapters.pagedkv import EagerForkAdapter, PagedKVAdapter, UncachedAdapter
from pytest_pagedkv.conformance import KVCacheConformance


class TestLazyForks(KVCacheConformance):
    """Copies are made when they are needed."""

    adapter = PagedKVAdapter
    exhaustive_depth = 3  # the profiles run 4 and 5


class TestEagerForks(KVCacheConformance):
    """Copies are made by the fork."""

    adapter = EagerForkAdapter
    exhaustive_depth = 3


class TestUncached(KVCacheConformance):
    """No prefixes are kept."""

    adapter = UncachedAdapter
    exhaustive_depth = 3
