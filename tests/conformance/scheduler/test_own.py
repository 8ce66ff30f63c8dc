"""Our own scheduler keeps the contract, whatever its settings are."""

from typing import ClassVar

from pytest_pagedkv.adapters.pagedkv_scheduler import PagedKVSchedulerAdapter
from pytest_pagedkv.conformance.scheduler.adapter import SchedulerFeature
from pytest_pagedkv.conformance.scheduler.suite import SchedulerConformance

_UNFAIR = SchedulerFeature.CHUNKED_PREFILL | SchedulerFeature.CACHED_TOKENS | SchedulerFeature.OUTPUTS
_FAIR = _UNFAIR | SchedulerFeature.FAIR
_PRIORITY = _FAIR | SchedulerFeature.PRIORITY


class OwnConformance(SchedulerConformance):
    """The suite with fewer random programs, as there are many schedulers."""

    case_share = 0.1


class FirstComeUncached(PagedKVSchedulerAdapter):
    """No prefix cache, no blocks kept back, large blocks."""

    features = _FAIR & ~SchedulerFeature.CACHED_TOKENS
    prefix_caching = False
    block_sizes: ClassVar = (16, 3)
    settings: ClassVar = {"policy": "fcfs", "watermark_ratio": 0.0}


class LastCome(PagedKVSchedulerAdapter):
    """Last come, first served, for ever."""

    features = _UNFAIR
    settings: ClassVar = {"policy": "lifo", "max_wait_ms": None}


class LastComeForAWhile(PagedKVSchedulerAdapter):
    """Last come, first served; who has waited for some steps goes before all others."""

    features = _FAIR
    settings: ClassVar = {"policy": "lifo", "max_wait_ms": 50.0}
    unfair_s = 0.06


class SharesFullBlocks(PagedKVSchedulerAdapter):
    """Samples share full blocks only, and compute the rest of their prompt by themselves."""

    features = _PRIORITY
    fork_mode = "full_blocks"


class KeepsAShareFree(PagedKVSchedulerAdapter):
    """A fifth of the pool is there for growth only, and nobody is overtaken."""

    features = _PRIORITY
    settings: ClassVar = {"policy": "priority", "watermark_ratio": 0.2, "max_overtakes": 0}


class KeepsNothingFree(PagedKVSchedulerAdapter):
    """Blocks are given away to the last one, and whoever fits goes first, often."""

    features = _PRIORITY
    settings: ClassVar = {"policy": "priority", "watermark_ratio": 0.0, "max_overtakes": 20}


class SmallChunks(PagedKVSchedulerAdapter):
    """Prompts are computed two tokens at a time, whatever room a step has."""

    features = _PRIORITY
    settings: ClassVar = {"policy": "priority", "max_chunk_tokens": 2}
    wait_ratio = 6.0


class WholePrompts(PagedKVSchedulerAdapter):
    """Prompts are computed in one step."""

    features = _PRIORITY & ~SchedulerFeature.CHUNKED_PREFILL
    settings: ClassVar = {"policy": "priority", "chunked_prefill": False}


class MergeWindow(PagedKVSchedulerAdapter):
    """New requests wait for others."""

    features = _PRIORITY
    settings: ClassVar = {"policy": "priority", "batch_merge_window_ms": 35.0}
    max_idle_s = 0.04


class LengthBuckets(PagedKVSchedulerAdapter):
    """Only prompts of similar length begin in a step."""

    features = _FAIR
    settings: ClassVar = {"length_buckets": (2, 5)}


class AdaptiveBatch(PagedKVSchedulerAdapter):
    """After a preemption fewer run."""

    features = _FAIR
    settings: ClassVar = {"adaptive_batch_size": True, "batch_average_steps": 4}


class Everything(PagedKVSchedulerAdapter):
    """All of it at once."""

    features = _FAIR
    settings: ClassVar = {
        "policy": "lifo",
        "max_wait_ms": 20.0,
        "max_chunk_tokens": 3,
        "watermark_ratio": 0.2,
        "batch_merge_window_ms": 15.0,
        "length_buckets": (4,),
        "adaptive_batch_size": True,
    }
    max_idle_s = 0.02
    unfair_s = 0.03
    wait_ratio = 6.0


class TestPriority(OwnConformance):
    """As it comes, with priorities."""

    adapter = PagedKVSchedulerAdapter


class TestFirstComeUncached(OwnConformance):
    """Without a prefix cache."""

    adapter = FirstComeUncached


class TestLastCome(OwnConformance):
    """Without fairness."""

    adapter = LastCome


class TestLastComeForAWhile(OwnConformance):
    """With a bound of waits."""

    adapter = LastComeForAWhile


class TestSharesFullBlocks(OwnConformance):
    """Without copies."""

    adapter = SharesFullBlocks


class TestKeepsAShareFree(OwnConformance):
    """With a watermark."""

    adapter = KeepsAShareFree


class TestKeepsNothingFree(OwnConformance):
    """Without a watermark."""

    adapter = KeepsNothingFree


class TestSmallChunks(OwnConformance):
    """With small chunks."""

    adapter = SmallChunks


class TestWholePrompts(OwnConformance):
    """Without chunks."""

    adapter = WholePrompts


class TestMergeWindow(OwnConformance):
    """With a window in which batches form."""

    adapter = MergeWindow


class TestLengthBuckets(OwnConformance):
    """With buckets."""

    adapter = LengthBuckets


class TestAdaptiveBatch(OwnConformance):
    """With a batch size that follows the pool."""

    adapter = AdaptiveBatch


class TestEverything(OwnConformance):
    """With all settings at once."""

    adapter = Everything
