"""An adapter that breaks the interface fails clearly, by name, and never takes the suite down."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance import InvariantViolation, KVCacheConformance
from pytest_pagedkv.conformance.cache.scenario_programs import SCENARIOS
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


@pytest.mark.parametrize("adapter", BROKEN, ids=lambda adapter: adapter.__name__)
def test_no_test_of_the_suite_crashes(adapter: type[KVCacheAdapter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test of the suite passes, fails with a message, or skips; none hangs or leaves a traceback."""
    monkeypatch.setattr("pytest_pagedkv.conformance.watch._TICK_S", 0.02)
    suite = QuickSuite()
    record: dict[str, object] = {}
    tests = [
        lambda: suite.test_interface(adapter),
        *(partial(suite.test_scenario, adapter, scenario) for scenario in SCENARIOS),
        lambda: suite.test_small_scope(adapter, record.__setitem__),
        lambda: suite.test_known_failures(adapter),
    ]
    outcomes = [outcome_of(test) for test in tests]

    assert "failed" in outcomes
    assert set(outcomes) <= {"passed", "failed", "skipped"}


class QuickSuite(KVCacheConformance):
    """The suite, in a hurry."""

    call_limit_s = 0.1
    exhaustive_depth = 2


def outcome_of(test: Callable[[], None]) -> str:
    """What pytest would say."""
    try:
        test()
    except pytest.skip.Exception:
        return "skipped"
    except pytest.fail.Exception:
        return "failed"
    return "passed"
