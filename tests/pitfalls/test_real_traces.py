"""Real traffic on devices that serve it is healthy: no detector speaks."""

from dataclasses import replace
from typing import Any

import pytest

from pagedkv.config import CacheConfig, OffloadConfig
from pagedkv.pitfalls import Pitfall
from pagedkv.scenarios import Outcome, Setup, run
from pagedkv.simulate import fitting_cache
from pagedkv.traces import read_trace
from tests.replay.real_traces import real_trace

SERVED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "azure_code": ("azure2023_code.csv.gz", {"prefix_model": "none"}, {}),
    "azure_conv": ("azure2023_conv.csv.gz", {"prefix_model": "none"}, {}),
    "mooncake_conversation": ("mooncake_conversation.jsonl.gz", {}, {"num_devices": 4}),
    "mooncake_arxiv": ("mooncake_arxiv_first1000.jsonl.gz", {}, {"num_devices": 4}),
    "weka": ("weka_agentic_60sessions.jsonl.gz", {}, {"num_devices": 4}),
}
"""File, how it is read, and devices that serve it: H200s with a model of 8 billion parameters."""


def served(
    name: str, num_requests: int, cache: CacheConfig | None = None, offload: OffloadConfig | None = None
) -> Outcome:
    """The beginning of a trace, in as many blocks as fit or in other ones."""
    file, reading, how = SERVED[name]
    trace = read_trace(real_trace(file), **reading)
    trace = replace(trace, requests=trace.requests[:num_requests])
    settled = cache or fitting_cache(trace, **how)
    return run(Setup(trace=lambda _: trace, cache=settled, offload=offload, how=how), 0)


@pytest.mark.parametrize("name", SERVED)
def test_the_beginning_is_healthy(name: str) -> None:
    """Without a finding."""
    outcome = served(name, 100)
    assert len(outcome.window) > 100
    assert outcome.findings == ()


@pytest.mark.heavy
@pytest.mark.parametrize("name", SERVED)
def test_an_hour_is_healthy(name: str) -> None:
    """Likewise over thousands of requests."""
    assert served(name, 3000).findings == ()


def test_the_same_conversations_in_blocks_that_do_not_suit_them() -> None:
    """Prompts of some 1000 tokens in a full pool of 1024-token blocks: detectors are not silent by nature."""
    fair, large = (
        served(
            "azure_conv", 300, CacheConfig(num_blocks=30_720 // size, block_size=size, prefix_caching=False)
        )
        for size in (16, 1024)
    )
    assert fair.findings == ()
    assert large.finds(Pitfall.FRAGMENTATION)


@pytest.mark.parametrize(
    ("name", "num_requests", "num_blocks", "tiers"),
    [
        ("weka", 40, 3000, {"pinned_bytes": 64 * 2**30}),
        ("weka", 40, 3000, {"pinned_bytes": 16 * 2**30, "nvme_bytes": 200 * 2**30}),
        ("mooncake_conversation", 400, 2000, {"pinned_bytes": 200 * 2**30}),
    ],
)
def test_pages_that_come_back_are_healthy(
    name: str, num_requests: int, num_blocks: int, tiers: dict[str, int]
) -> None:
    """Device memory that is too small for all that is wanted again, with tiers below that hold it."""
    block_size = 64 if name == "weka" else 512
    cache = CacheConfig(num_blocks=num_blocks, block_size=block_size)
    outcome = served(name, num_requests, cache, OffloadConfig(**tiers))
    assert outcome.window.total("num_page_ins") > 100
    assert outcome.findings == ()
