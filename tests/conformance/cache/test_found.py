"""Programs that found bugs of ours, as the suite printed them."""

import pytest

from pytest_pagedkv.adapter import OutOfBlocks
from pytest_pagedkv.adapters.pagedkv import EagerForkAdapter, PagedKVAdapter
from pytest_pagedkv.conformance import CheckedCache


def test_hit_completeness() -> None:
    """The block that stood for a prefix was evicted while another sequence held the same in its own."""
    cache = CheckedCache(PagedKVAdapter(8, 1))
    cache.admit(0, [0, 0])
    cache.admit(1, [0, 0])
    cache.append(1, [1])
    cache.truncate(0, 1)
    cache.append(0, [0, 1])
    cache.append(1, [0, 0])
    with pytest.raises(OutOfBlocks):
        cache.admit(2, [0, 0, 0, 0])
    cache.admit(2, [0, 1])
    cache.release(0)
    cache.admit(0, [0, 0, 1])
    cache.close()


def test_eviction_order() -> None:
    """The block that stood for a prefix had been idle for long, and its twin was only just released."""
    cache = CheckedCache(EagerForkAdapter(13, 2))
    cache.admit(15, [0, 0, 0, 0, 0])
    cache.admit(17, [1, 1, 1, 0, 0, 0, 0, 1])
    cache.append(17, [0])
    cache.fork(17, 19)
    cache.append(17, [1])
    cache.append(19, [1])
    cache.release(17)
    cache.append(19, [0])
    cache.release(19)
    cache.admit(24, [0, 0, 0, 0, 0, 0, 0], "0")
    cache.admit(23, [1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0])
    cache.close()


def test_eviction_order_of_a_fork() -> None:
    """The prefix stood in an idle block while a fork held it in a live one."""
    cache = CheckedCache(PagedKVAdapter(7, 1))
    cache.admit(0, [0])
    cache.release(0)
    cache.admit(0, [0])
    cache.fork(0, 1)
    cache.release(0)
    cache.admit(2, [1, 0, 0, 0, 0, 0])
    cache.truncate(2, 1)
    cache.admit(3, [0, 0])
    cache.close()
