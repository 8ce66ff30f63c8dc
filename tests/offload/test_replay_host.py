"""Replay with a host tier below the pool, against its definition block by block."""

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import ConfigError
from pagedkv.replay import TieredResult, replay_sequential
from pagedkv.traces import Trace, read_trace
from tests.examples import examples
from tests.replay import reference
from tests.replay.real_traces import real_trace


def tiered(trace: Trace, num_blocks: int, num_host_blocks: int) -> dict[str, int]:
    """What the pool evicts goes to the end of the host's queue, and the first of that are lost."""
    size = trace.block_size or 0
    free = OrderedDict.fromkeys(range(num_blocks))
    block_of: dict[int, int] = {}
    id_of: dict[int, int] = {}
    host: OrderedDict[int, None] = OrderedDict()
    found = dict.fromkeys(("rejected", "device_hit_blocks", "host_hit_blocks", "page_outs"), 0)

    def take() -> int:
        block, _ = free.popitem(last=False)
        if block in id_of:
            block_id = id_of.pop(block)
            del block_of[block_id]
            host[block_id] = None
            found["page_outs"] += 1
            if len(host) > num_host_blocks:
                host.popitem(last=False)
        return block

    for request in trace.requests:
        prompt, ids = request.num_prompt_tokens, list(request.block_ids or [])
        n = -(-(prompt + request.num_output_tokens) // size)
        if n > num_blocks:
            found["rejected"] += 1
            continue
        prefix = []
        for block_id in ids[: max(0, (prompt - 1) // size)]:
            if block_id not in block_of and block_id not in host:
                break
            prefix.append(block_id)
        missing = [block_id for block_id in prefix if block_id in host]
        for block_id in prefix:
            if block_id in host:
                del host[block_id]
            else:
                del free[block_of[block_id]]
        found["device_hit_blocks"] += len(prefix) - len(missing)
        found["host_hit_blocks"] += len(missing)
        for block_id in missing:
            block = take()
            block_of[block_id], id_of[block] = block, block_id
        table = [block_of[block_id] for block_id in prefix]
        table += [take() for _ in range(n - len(table))]
        for block_id, block in list(zip(ids, table, strict=False))[len(prefix) : prompt // size]:
            if block_id not in block_of:
                host.pop(block_id, None)
                block_of[block_id], id_of[block] = block, block_id
        for block in reversed(table):
            free[block] = None
    return found | {"cached_end": len(block_of)}


@settings(deadline=None, max_examples=examples(300))
@given(reference.traces(), st.integers(1, 15), st.integers(1, 15))
def test_equals_the_reference(trace: Trace, num_blocks: int, num_host_blocks: int) -> None:
    """Hits of both tiers and what goes down are those of the definition."""
    result = replay_sequential(trace, num_blocks, num_host_blocks=num_host_blocks)
    expected = tiered(trace, num_blocks, num_host_blocks)
    assert isinstance(result, TieredResult)
    assert result.hit_blocks == result.device_hit_blocks + result.host_hit_blocks
    # What a single request evicts beyond the host's size was never stored there.
    assert result.page_outs <= expected.pop("page_outs")
    found = result.as_dict()
    assert {name: found[name] for name in expected} == expected


def test_without_a_host_tier_nothing_is_new() -> None:
    """The result has the numbers that it always had."""
    trace = reference.trace_of(4, (0, 9, 3, [1, 2, 3]), (0, 9, 3, [1, 2, 3]))
    assert type(replay_sequential(trace, 3)).__name__ == "SequentialResult"


def test_a_pool_that_never_evicts_needs_no_host() -> None:
    """It is refused, with what to do."""
    trace = reference.trace_of(4, (0, 9, 3, [1, 2, 3]))
    with pytest.raises(ConfigError, match="give the pool a size"):
        replay_sequential(trace, num_host_blocks=5)


@pytest.mark.parametrize(
    "name",
    [
        "mooncake_arxiv_first1000.jsonl.gz",
        pytest.param("weka_agentic_60sessions.jsonl.gz", marks=pytest.mark.heavy),
    ],
)
def test_a_real_trace(name: str) -> None:
    """Real traffic too, where the host brings hits that the device alone does not have."""
    trace = read_trace(real_trace(name))
    result = replay_sequential(trace, 5000, num_host_blocks=5000)
    expected = tiered(trace, 5000, 5000)
    assert isinstance(result, TieredResult)
    assert result.page_outs == expected["page_outs"]
    assert result.host_hit_blocks == expected["host_hit_blocks"] > 0
    assert result.hit_blocks > replay_sequential(trace, 5000).hit_blocks
