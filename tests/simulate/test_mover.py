"""A simulated mover takes the time that bytes take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.clock import VirtualClock
from pagedkv.events import EventStream, StreamAwaited
from pagedkv.simulate.mover import SimulatedMover
from pagedkv.simulate.profiles import device_profile

PAGE = 2 << 20
NS_PER_S = 10**9


def ids(*numbers: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """A vector of ids."""
    return np.array(numbers, np.int64)


def mover_of(clock: VirtualClock, **options: int | bool) -> SimulatedMover:
    """A mover of an H100."""
    return SimulatedMover(
        clock, device_profile("h100"), page_bytes=PAGE, num_slots=256, num_places=256, **options
    )


def run_out(mover: SimulatedMover, clock: VirtualClock) -> list[tuple[int, int]]:
    """Every operation under way and when it ends."""
    ended = []
    while (next_ns := mover.next_ns()) is not None:
        clock.sleep_until(next_ns)
        ended += [(moved.operation, clock.now_ns()) for moved in mover.poll()]
    return ended


def test_a_page_takes_its_bytes_over_the_link() -> None:
    """2 MiB at 49.92 GB/s are 42 microseconds, and a launch."""
    clock = VirtualClock()
    mover = mover_of(clock)
    operation = mover.load(ids(3), ids(7))
    speed = device_profile("h100").reached_link_bytes_per_s
    assert run_out(mover, clock) == [(operation, -(-PAGE * NS_PER_S // speed) + 10_000)]


def test_a_load_waits_for_the_store_of_its_slot() -> None:
    """What is still on its way down cannot come up."""
    clock = VirtualClock()
    mover = mover_of(clock)
    mover.store(np.arange(32), np.arange(32))
    first, other = mover.load(ids(31), ids(1)), mover.load(ids(200), ids(2))
    ends = dict(run_out(mover, clock))
    assert ends[first] > 32 * PAGE * NS_PER_S // device_profile("h100").reached_link_bytes_per_s
    assert ends[other] > ends[first]  # the link serves them in order


def test_both_directions_share_the_link() -> None:
    """Beside a store, a load gets half of what both get together."""
    alone, beside = VirtualClock(), VirtualClock()
    quick, slow = mover_of(alone), mover_of(beside)
    slow.store(np.arange(64), np.arange(64))
    quick.load(ids(*range(100, 110)), ids(*range(10)))
    slow.load(ids(*range(100, 110)), ids(*range(10)))
    profile = device_profile("h100")
    [(_, alone_ns)], [(_, beside_ns)] = run_out(quick, alone), run_out(slow, beside)
    ratio = profile.reached_link_bytes_per_s / (profile.reached_duplex_bytes_per_s / 2)
    assert (beside_ns - 10_000) / (alone_ns - 10_000) == pytest.approx(ratio, rel=1e-3)


def test_stores_beyond_the_staging_buffer_wait() -> None:
    """64 pages are buffered; the step waits for what is beyond."""
    clock = VirtualClock()
    mover = mover_of(clock)
    mover.store(np.arange(64), np.arange(64))
    assert clock.now_ns() == mover.stalled_ns == 0
    mover.store(np.arange(8), np.arange(64, 72))
    assert clock.now_ns() == mover.stalled_ns > 0


@given(st.lists(st.sampled_from(["load", "spill", "fetch", "store", "time"]), max_size=40))
def test_every_copy_is_reported_once_and_no_route_is_quicker_than_its_bandwidth(program: list[str]) -> None:
    """Whatever is under way, and in whatever order it was asked for."""
    clock = VirtualClock()
    mover = mover_of(clock, num_devices=2)
    submitted: dict[int, str] = {}
    ended: list[int] = []
    for i, action in enumerate(program):
        if action == "load":
            submitted[mover.load(ids(i), ids(i))] = action
        elif action == "spill":
            submitted[mover.spill(i, i)] = action
        elif action == "fetch":
            submitted[mover.fetch(i, i)] = action
        elif action == "store":
            mover.store(ids(i), ids(i))
        else:
            clock.advance(20_000)
            ended += [moved.operation for moved in mover.poll()]
    ended += [operation for operation, _ in run_out(mover, clock)]
    assert sorted(ended) == sorted(submitted)
    for route, name in (("page_in", "load"), ("spill", "spill"), ("fetch", "fetch")):
        count = sum(kind == name for kind in submitted.values())
        assert clock.now_ns() * mover.bandwidth[route] >= count * PAGE * NS_PER_S
    assert not mover.poll()


def test_a_step_waits_for_pages_without_deferred_events() -> None:
    """Until the last one that was asked for is there; with deferred events, not at all."""
    clock, told = VirtualClock(), []
    mover = mover_of(clock, deferred_events=False)
    events = EventStream()
    events.attach(told.append)
    mover.tell(events)
    mover.load(ids(1, 2), ids(1, 2))
    mover.load(ids(3), ids(3))
    end_ns = mover_end_ns(mover)
    mover.begin_step()
    assert clock.now_ns() == end_ns
    assert told == [StreamAwaited("page_in", end_ns)]
    assert len(mover.poll()) == 2
    mover.begin_step()
    assert clock.now_ns() == end_ns

    other = VirtualClock()
    deferred = mover_of(other)
    deferred.load(ids(1), ids(1))
    deferred.begin_step()
    assert other.now_ns() == 0


def mover_end_ns(mover: SimulatedMover) -> int:
    """When all that is under way has ended."""
    return max(end_ns for end_ns, _ in mover._in_flight)


def test_without_a_side_stream_a_step_waits_for_evictions_too() -> None:
    """They are its own copies, in both directions one after the other."""
    clock, told = VirtualClock(), []
    mover = mover_of(clock, io_streams=0)
    events = EventStream()
    events.attach(told.append)
    mover.tell(events)
    mover.store(ids(1, 2), ids(1, 2))
    mover.load(ids(3), ids(3))
    assert clock.now_ns() == 0
    mover.begin_step()
    pages_ns = 3 * PAGE * NS_PER_S // device_profile("h100").reached_link_bytes_per_s
    assert clock.now_ns() == pytest.approx(pages_ns + 10_000, abs=10)
    assert [event.route for event in told] == ["page_out", "page_in"]
    assert sum(event.wait_ns for event in told) == clock.now_ns()


def test_one_stream_takes_turns() -> None:
    """A load goes behind a store, at the full speed of one way; two streams share the link."""
    one, two = VirtualClock(), VirtualClock()
    ends = []
    for clock, io_streams in ((one, 1), (two, 2)):
        mover = mover_of(clock, io_streams=io_streams)
        mover.store(np.arange(32), np.arange(32))
        mover.load(ids(200), ids(2))
        ends.append(run_out(mover, clock)[0][1])
    page_ns = PAGE * NS_PER_S // device_profile("h100").reached_link_bytes_per_s
    assert ends[0] == pytest.approx(33 * page_ns + 10_000, abs=100)
    assert ends[1] < ends[0]


@given(st.integers(1, 8), st.integers(2, 40))
def test_threads_read_side_by_side(io_threads: int, num_pages: int) -> None:
    """More threads are never slower, and no quicker than the disk."""
    times = []
    for threads in (io_threads, io_threads + 1):
        clock = VirtualClock()
        mover = mover_of(clock, io_threads=threads)
        for page in range(num_pages):
            mover.fetch(page, page)
        times.append(run_out(mover, clock)[-1][1])
    assert times[1] <= times[0]
    assert times[1] >= num_pages * PAGE * NS_PER_S // device_profile("h100").disk_read_bytes_per_s
    one_by_one_ns = PAGE * NS_PER_S // device_profile("h100").disk_read_bytes_per_s + 80_000
    if io_threads == 1:
        assert times[0] > num_pages * one_by_one_ns
