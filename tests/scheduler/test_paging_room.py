"""Pages that were brought ahead take no room that somebody before them needs."""

import pytest

from pagedkv.config import CacheConfig, OffloadConfig
from pagedkv.simulate import simulate
from pagedkv.traces import generate


@pytest.mark.parametrize(
    ("seed", "num_blocks", "max_prompt_tokens"), [(0, 120, 6000), (4, 300, 16_000), (1, 300, 16_000)]
)
def test_everybody_is_served_where_prefetched_pages_fill_the_pool(
    seed: int, num_blocks: int, max_prompt_tokens: int
) -> None:
    """Replays: the first in line was held for blocks that pages of others had, or gave up its own pages."""
    trace = generate(
        "agentic", seed=seed, num_requests=40, max_prompt_tokens=max_prompt_tokens, system_tokens=1000
    )
    result = simulate(
        trace,
        cache=CacheConfig(num_blocks=num_blocks, block_size=64),
        offload=OffloadConfig(pinned_bytes=8 * 2**30),
        device="h100",
        time_scale=0.02,
    )
    assert result.offload is not None
    assert result.offload.num_prefetched
    assert len(result.timelines) == 40 - result.rejected
