"""First come, first served on a pool of blocks."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv.block_pool import BlockPool
from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.replay import fcfs, replay_fcfs
from pagedkv.traces import Trace, generate, read_trace
from tests.replay import reference
from tests.replay.real_traces import real_trace
from tests.replay.reference import trace_of


@settings(deadline=None, max_examples=150)
@given(reference.traces(), st.integers(1, 20), st.integers(1, 6))
def test_equals_the_reference(trace: Trace, num_blocks: int, block_size: int) -> None:
    """The event loop gives the numbers of a walk through every millisecond."""
    found = replay_fcfs(trace, num_blocks, block_size=block_size).as_dict()

    expected = reference.fcfs(trace, num_blocks, block_size)
    assert {name: found[name] for name in expected} == expected


def test_hand_computed() -> None:
    """The head of the queue blocks a smaller request behind it; departures come before admissions."""
    trace = trace_of(
        4,
        (0, 8, 1),  # 3 blocks, 0 to 26
        (1, 12, 1),  # 4 blocks, waits until 26, to 53
        (2, 1, 0),  # 1 block would fit at 2, but waits until 53, to 54
        (53, 16, 1),  # 5 blocks: rejected
    )

    found = replay_fcfs(trace, 4)

    assert found.as_dict() == {
        "max_queue": 2,
        "total_wait_ms": 25 + 51,
        "makespan_ms": 54,
        "peak_requests": 1,
        "peak_blocks": 4,
        "rejected": 1,
        "requests": 4,
    }


def test_arrivals_out_of_order_are_sorted_and_ties_keep_the_file_order() -> None:
    """The queue is in order of arrival, and in order of the file where times are equal."""
    trace = trace_of(4, (5, 4, 1), (0, 4, 1), (5, 4, 2))

    found = replay_fcfs(trace, 2)

    assert (found.total_wait_ms, found.makespan_ms) == (21 + 47, 26 + 26 + 51)


def test_request_that_takes_no_time() -> None:
    """A request without tokens comes and goes in the same millisecond."""
    found = replay_fcfs(trace_of(4, (7, 0, 0), (7, 0, 0)), 1)

    assert (found.makespan_ms, found.peak_requests, found.peak_blocks) == (7, 2, 0)


def test_nothing_waits_without_a_limit() -> None:
    """A pool as large as is ever needed admits everybody at once."""
    found = replay_fcfs(generate("bursty", num_requests=200, seed=1))

    assert (found.max_queue, found.total_wait_ms, found.rejected) == (0, 0, 0)


@settings(deadline=None)
@given(reference.traces(), st.integers(1, 6))
def test_endless_pool_is_as_large_as_the_peak(trace: Trace, block_size: int) -> None:
    """Without a size the numbers are those of a pool far too large, and a pool of the peak is enough."""
    found = replay_fcfs(trace, block_size=block_size)

    assert found == replay_fcfs(trace, 10_000, block_size=block_size)
    assert found == replay_fcfs(trace, max(1, found.peak_blocks), block_size=block_size)


def test_endless_pool_is_not_sized_by_the_whole_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a size the pool has the blocks that are held at once, however long the trace is."""
    sizes: list[int] = []

    def pool(num_blocks: int) -> BlockPool:
        sizes.append(num_blocks)
        return BlockPool(num_blocks)

    monkeypatch.setattr(fcfs, "BlockPool", pool)
    gap = 8000 // 8
    rows = [(gap * i, 8000, 0) for i in range(3000)]  # each arrives as the one before it departs: 24e6 blocks

    found = replay_fcfs(trace_of(None, *rows), block_size=1)

    assert (found.peak_requests, found.peak_blocks, found.total_wait_ms, sizes) == (1, 8000, 0, [8000])


def test_refuses_to_take_all_memory_unasked() -> None:
    """An endless pool for absurd lengths is refused with the number, instead of allocated."""
    with pytest.raises(ConfigError, match=r"num_blocks is inf.* 33554432 blocks.*give the pool a size"):
        replay_fcfs(trace_of(None, (0, 2**24, 0), (1, 2**24, 0)), block_size=1)


def test_row_without_arrival_is_an_error_that_names_it() -> None:
    """A request without an arrival time is refused with file, line and column."""
    trace = replace(trace_of(4, (0, 4, 1), (None, 4, 1)), name="some.jsonl")

    with pytest.raises(TraceFormatError, match=r"some\.jsonl:2: timestamp: .*arrival time"):
        replay_fcfs(trace, 2)
    with pytest.raises(TraceFormatError, match=r"some\.jsonl:2: timestamp: .*arrival time"):
        replay_fcfs(trace)


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 4), (4, 0), (True, 4)])
def test_refuses_impossible_sizes(num_blocks: int, block_size: int) -> None:
    """Sizes have to be positive ints."""
    with pytest.raises(ConfigError, match="must be an int from 1"):
        replay_fcfs(trace_of(4, (0, 4, 1)), num_blocks, block_size=block_size)


def test_progress_reaches_the_end() -> None:
    """Progress counts arrivals."""
    seen: list[tuple[int, int]] = []

    replay_fcfs(generate("bursty", num_requests=70, seed=1), progress=lambda *at: seen.append(at))

    assert seen == [(0, 70), (64, 70), (70, 70)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("azure2023_code.csv.gz", (107, 552145, 3448859, 39, 5000, 0, 8819)),
        ("azure2023_conv.csv.gz", (4, 9140, 3512039, 55, 4998, 0, 19366)),
        ("weka_agentic_60sessions.jsonl.gz", (351, 1584604643, 79437311, 7, 5000, 9, 1244)),
    ],
)
def test_real_traces(name: str, expected: tuple[int, ...]) -> None:
    """Real traces on 5000 blocks give the numbers that were found for them before."""
    found = replay_fcfs(read_trace(real_trace(name)), 5000)

    assert tuple(found.as_dict().values()) == expected
