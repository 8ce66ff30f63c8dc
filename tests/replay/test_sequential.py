"""One request after the other through the prefix cache."""

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import ConfigError
from pagedkv.replay import replay_sequential
from pagedkv.traces import Trace, generate, read_trace
from tests.replay import reference
from tests.replay.real_traces import real_trace
from tests.replay.reference import trace_of

ARXIV, CONVERSATION = "mooncake_arxiv_first1000.jsonl.gz", "mooncake_conversation.jsonl.gz"
WEKA = "weka_agentic_60sessions.jsonl.gz"


@settings(deadline=None, max_examples=300)
@given(reference.traces(), st.integers(1, 30))
def test_equals_the_reference(trace: Trace, num_blocks: int) -> None:
    """Every number is that of the definition, also with ids that no chain of prefixes would have."""
    found = replay_sequential(trace, num_blocks).as_dict()

    expected = reference.sequential(trace, num_blocks)
    assert {name: found[name] for name in expected} == expected


@settings(deadline=None)
@given(reference.traces())
def test_endless_pool_is_one_that_nothing_ever_leaves(trace: Trace) -> None:
    """Without a size the pool never evicts or rejects, and more blocks change nothing."""
    found = replay_sequential(trace)

    assert found.evictions == found.rejected == 0
    assert found == replay_sequential(trace, 1000)


def test_hand_computed() -> None:
    """Three prompts on four blocks: a miss, a partial hit that evicts, a full hit."""
    trace = trace_of(
        4,
        (0, 8, 4, [1, 2]),  # blocks 0 1 2, registers 1 2; free: 3 2 1 0
        (0, 9, 3, [1, 5, 6]),  # reuses 0, takes 3 2; registers 5 on 3; free: 1 2 3 0
        (0, 9, 1, [1, 5, 7]),  # reuses 0 and 3, takes 1, which loses id 2
    )

    found = replay_sequential(trace, 4)

    assert found.as_dict() == {
        "requests": 3,
        "rejected": 0,
        "prompt_blocks": 8,
        "lookup_blocks": 5,
        "hit_blocks": 3,
        "full_prefix_hits": 1,
        "evictions": 1,
        "blocks_allocated": 6,
        "cached_end": 2,
        "hit_ratio": 3 / 8,
    }


def test_last_prompt_token_is_always_computed() -> None:
    """A prompt that fills its blocks exactly reuses all but the last of them."""
    trace = trace_of(4, (0, 8, 0, [1, 2]), (0, 8, 0, [1, 2]))

    assert replay_sequential(trace).hit_blocks == 1


def test_partial_block_is_not_registered() -> None:
    """The id of a partly filled last block is counted as a prompt block, and never hit."""
    trace = trace_of(4, (0, 6, 0, [1, 2]), (0, 9, 0, [1, 2, 3]))

    found = replay_sequential(trace)

    assert (found.prompt_blocks, found.hit_blocks, found.cached_end) == (5, 1, 2)


def test_rejected_request_changes_nothing() -> None:
    """A request that is larger than the pool leaves the cached blocks as they are."""
    trace = trace_of(4, (0, 8, 0, [1, 2]), (0, 100, 0, list(range(50, 75))), (0, 9, 0, [1, 2, 3]))

    found = replay_sequential(trace, 3)

    assert (found.rejected, found.hit_blocks, found.evictions) == (1, 2, 0)


def test_request_without_tokens() -> None:
    """A row of no tokens at all needs no block, and is no rejection."""
    found = replay_sequential(trace_of(4, (0, 0, 0, []), (0, 0, 3, None)), 1)

    assert (found.requests, found.rejected, found.blocks_allocated) == (2, 0, 1)


def test_tail_blocks_go_first() -> None:
    """Blocks are given back last one first, so that eviction shortens a prefix from its end."""
    trace = trace_of(1, (0, 4, 0, [1, 2, 3, 4]), (0, 2, 0, [8, 9]), (0, 5, 0, [1, 2, 3, 4, 5]))

    assert replay_sequential(trace, 5).hit_blocks == 3


def test_refuses_to_invent_a_hit_rate() -> None:
    """A trace without ids is refused, and the message names the way out."""
    with pytest.raises(ConfigError, match=r"--prefix-model none .* or shared:N"):
        replay_sequential(trace_of(None, (0, 8, 4)))


@pytest.mark.parametrize("num_blocks", [0, -1, True, 2.0, "4", 2**31])
def test_refuses_impossible_pools(num_blocks: int) -> None:
    """A size that is no positive int is a configuration error."""
    with pytest.raises(ConfigError, match="num_blocks"):
        replay_sequential(trace_of(4, (0, 8, 4, [1, 2])), num_blocks)


def test_refuses_to_take_all_memory_unasked() -> None:
    """An endless pool for absurd lengths is refused with the number, instead of allocated."""
    for num_tokens in (2**31 - 1, 2**24 + 1):
        with pytest.raises(ConfigError, match=rf"{num_tokens} blocks.*give the pool a size"):
            replay_sequential(trace_of(1, (0, num_tokens, 0, [])))


def test_progress_reaches_the_end() -> None:
    """Progress starts at nothing, never goes back, and ends at everything."""
    trace = generate("chat", num_requests=150, seed=0)
    seen: list[tuple[int, int]] = []

    replay_sequential(trace, 100, progress=lambda done, total: seen.append((done, total)))

    assert seen[0] == (0, 150)
    assert seen[-1] == (150, 150)
    assert seen == sorted(seen)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 300))
def test_generated_traces_equal_the_reference(seed: int, num_blocks: int) -> None:
    """Conversations of the generator give the numbers of the definition."""
    trace = generate("chat", num_requests=40, seed=seed, block_size=64, max_prompt_tokens=4096)
    found = replay_sequential(trace, num_blocks).as_dict()

    expected = reference.sequential(trace, num_blocks)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "num_blocks", "expected"),
    [
        (ARXIV, 1000, (1000, 0, 19686, 18686, 5565, 233, 12246, 14509, 878)),
        (ARXIV, None, (1000, 0, 19686, 18686, 7468, 261, 0, 12606, 11221)),
        (CONVERSATION, 1000, (12031, 0, 288500, 276469, 12817, 1391, 262739, 283996, 935)),
        (CONVERSATION, None, (12031, 0, 288500, 276469, 105592, 2412, 0, 191221, 170899)),
        (WEKA, 1000, (1244, 722, 1612798, 330550, 139762, 0, 189807, 194352, 988)),
        (WEKA, None, (1244, 0, 1612798, 1612788, 1469042, 0, 0, 153438, 143756)),
    ],
)
def test_real_traces(name: str, num_blocks: int | None, expected: tuple[int, ...]) -> None:
    """Real traces give the numbers that the reference gave for them."""
    found = replay_sequential(read_trace(real_trace(name)), num_blocks).as_dict()

    assert tuple(found.values())[:-1] == expected


@pytest.mark.parametrize("num_blocks", [50, 1000, 10_000])
def test_real_trace_equals_the_reference(num_blocks: int) -> None:
    """A real trace gives the numbers of the definition at several sizes."""
    trace = read_trace(real_trace(ARXIV))
    found = replay_sequential(trace, num_blocks).as_dict()

    expected = reference.sequential(trace, num_blocks)
    assert {name: found[name] for name in expected} == expected


def test_ids_may_be_any_sequence() -> None:
    """Arrays and lists of ids mean the same."""
    rows = [(0, 8, 4, [1, 2]), (0, 9, 3, [1, 5, 6])]
    packed = [(t, i, o, array("q", ids)) for t, i, o, ids in rows]

    assert replay_sequential(trace_of(4, *rows)) == replay_sequential(trace_of(4, *packed))
