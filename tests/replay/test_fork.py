"""Several samples of each prompt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.errors import ConfigError
from pagedkv.replay import replay_fork
from pagedkv.traces import Trace, generate, read_trace
from tests.replay import reference
from tests.replay.real_traces import real_trace
from tests.replay.reference import trace_of


@settings(deadline=None, max_examples=150)
@given(reference.traces(), st.integers(1, 5), st.integers(1, 40), st.integers(1, 6))
def test_equals_the_formula(trace: Trace, num_samples: int, num_blocks: int, block_size: int) -> None:
    """What the block manager holds and copies is what the definition says."""
    found = replay_fork(trace, num_samples, num_blocks, block_size=block_size).as_dict()

    expected = reference.fork(trace, num_samples, num_blocks, block_size)
    assert {name: found[name] for name in expected} == expected


def test_hand_computed() -> None:
    """Three samples of one and a half blocks: the full block is shared, two of the halves are copies."""
    found = replay_fork(trace_of(None, (0, 6, 3)), 3, block_size=4)

    assert found.as_dict() == {
        "blocks_without_sharing": 9,
        "blocks_with_sharing": 7,
        "cow_copies": 2,
        "requests": 1,
        "rejected": 0,
        "saving": 2 / 9,
    }


def test_one_sample_shares_nothing() -> None:
    """A single sample holds the same blocks either way, and copies nothing."""
    found = replay_fork(trace_of(None, (0, 6, 3), (0, 16, 1)), 1)

    assert found.blocks_with_sharing == found.blocks_without_sharing == 3
    assert (found.cow_copies, found.ratios()) == (0, {"saving": 0.0})


def test_nothing_to_sample() -> None:
    """Requests without a prompt are left out; without any other, the saving is 0."""
    found = replay_fork(trace_of(None, (0, 0, 3)), 2)

    assert (found.requests, found.rejected, found.blocks_without_sharing) == (1, 0, 0)
    assert found.ratios() == {"saving": 0.0}


def test_rejects_what_does_not_fit_even_shared() -> None:
    """A request whose shared need exceeds the pool is counted as rejected, and the others still run."""
    found = replay_fork(trace_of(None, (0, 6, 3), (0, 4, 4)), 3, 6, block_size=4)

    assert (found.rejected, found.blocks_with_sharing) == (1, 4)


@pytest.mark.parametrize("num_samples", [0, -2, True, 2.5])
def test_refuses_impossible_numbers_of_samples(num_samples: int) -> None:
    """The number of samples has to be a positive int."""
    with pytest.raises(ConfigError, match="num_samples"):
        replay_fork(trace_of(None, (0, 6, 3)), num_samples)


@pytest.mark.parametrize("num_blocks", [None, 1000])
def test_too_many_samples_are_refused_by_their_name(num_blocks: int | None) -> None:
    """Samples that need absurdly many blocks apart are refused as such, whatever the size of the pool."""
    expected = r"^num_samples \(--fork\) is 2147483647, .* 2147483647 blocks, .*: take fewer samples"

    with pytest.raises(ConfigError, match=expected):
        replay_fork(trace_of(None, (0, 6, 3)), 2**31 - 1, num_blocks)


def test_block_size_comes_from_the_ids_unless_chosen() -> None:
    """The block size is the chosen one, else that of the ids, else 16."""
    row = (0, 64, 0)

    assert replay_fork(trace_of(8, row), 1).blocks_without_sharing == 8
    assert replay_fork(trace_of(8, row), 1, block_size=32).blocks_without_sharing == 2
    assert replay_fork(trace_of(None, row), 1).blocks_without_sharing == 4
    with pytest.raises(ConfigError, match="block_size"):
        replay_fork(trace_of(None, row), 1, block_size=0)


def test_progress_reaches_the_end() -> None:
    """Progress counts the requests that have a prompt."""
    seen: list[tuple[int, int]] = []

    replay_fork(generate("code", num_requests=5, seed=0), 2, progress=lambda *at: seen.append(at))

    assert seen == [(0, 5), (5, 5)]


@pytest.mark.parametrize(
    ("name", "num_samples", "expected"),
    [
        ("azure2023_conv.csv.gz", 2, (3324394, 1935762, 18305)),
        ("azure2023_code.csv.gz", 4, (4593304, 1219765, 24870)),
        ("mooncake_arxiv_first1000.jsonl.gz", 6, (120444, 26999, 4985)),
        ("weka_agentic_60sessions.jsonl.gz", 2, (3244960, 1632162, 1233)),  # has a request without output
    ],
)
def test_real_traces(name: str, num_samples: int, expected: tuple[int, int, int]) -> None:
    """Real traces give the numbers of the formula."""
    trace = read_trace(real_trace(name))
    found = replay_fork(trace, num_samples)

    assert (found.blocks_without_sharing, found.blocks_with_sharing, found.cow_copies) == expected
    assert tuple(reference.fork(trace, num_samples, 10**9, trace.block_size or 16).values()) == (*expected, 0)
