"""An adapter that breaks the interface fails clearly, by name, and never takes the suite down."""

import pytest
from hypothesis import settings

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance import InvariantViolation
from pytest_pagedkv.conformance.cache.search import search
from tests.conformance.cache.broken import BROKEN

FEW = settings(max_examples=60, stateful_step_count=20, database=None)


@pytest.mark.parametrize("adapter", BROKEN, ids=lambda adapter: adapter.__name__)
def test_a_broken_adapter_is_named(adapter: type[KVCacheAdapter]) -> None:
    """The failure says which adapter, which call, and what is wrong with it."""
    invariant, where, what = BROKEN[adapter]

    with pytest.raises(InvariantViolation) as caught:
        search(adapter, settings=FEW, seed=0, call_limit_s=0.5)

    text = str(caught.value)
    assert caught.value.invariant == invariant
    assert adapter.__name__ in text
    assert where in text
    assert what in text
