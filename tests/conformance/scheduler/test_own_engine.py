"""Our own engine keeps the contract of schedulers, step by step."""

from typing import ClassVar

import pytest

from pytest_pagedkv.adapters.pagedkv_engine import PagedKVEngineAdapter
from pytest_pagedkv.conformance.scheduler.adapter import SchedulerFeature
from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance


class EngineConformance(SchedulerConformance):
    """The suite with fewer random programs, as a step is a thread here."""

    case_share = 0.1


class UncachedEngine(PagedKVEngineAdapter):
    """Last come, first served; no prefix cache, small chunks."""

    features = SchedulerFeature.CHUNKED_PREFILL | SchedulerFeature.OUTPUTS
    prefix_caching = False
    settings: ClassVar = {"policy": "lifo", "max_wait_ms": None, "max_chunk_tokens": 2}
    wait_ratio = 6.0


class TestEngine(EngineConformance):
    """With priorities and a prefix cache."""

    adapter = PagedKVEngineAdapter


@pytest.mark.heavy
class TestUncachedEngine(EngineConformance):
    """Without either."""

    adapter = UncachedEngine
