"""Each setting of the scheduler does what it says."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.config import SchedulerConfig
from pagedkv.errors import ConfigError
from pagedkv.events import RequestPreempted, RequestStarted, StepScheduled
from tests.scheduler.conftest import MS, Served, began

Serve = Callable[..., Served]


def order_of_starts(served: Served) -> list[int | str]:
    """Requests in the order in which they began."""
    return [event.request_id for event in served.of(RequestStarted) if not event.is_resumed]


@pytest.mark.parametrize(
    ("policy", "order"), [("fcfs", [1, 2, 3, 4]), ("lifo", [4, 3, 2, 1]), ("priority", [3, 1, 4, 2])]
)
def test_policies(serve: Serve, policy: str, order: list[int]) -> None:
    """One at a time, in the order of the policy."""
    served = serve(policy=policy, max_running=1)
    for request_id, priority in enumerate((1, 2, 0, 1), 1):
        served.add(request_id, priority=priority)
    served.drain()
    assert order_of_starts(served) == order


@pytest.mark.parametrize(("policy", "loser"), [("fcfs", 2), ("lifo", 1), ("priority", 1)])
def test_who_is_preempted(serve: Serve, policy: str, loser: int) -> None:
    """The last one in the order of the policy."""
    served = serve(policy=policy, num_blocks=6)
    for request_id, priority in ((1, 5), (2, 0)):
        served.add(request_id, max_tokens=16, priority=priority)
    served.drain()
    assert {event.request_id for event in served.of(RequestPreempted)} == {loser}


def test_who_waits_too_long_goes_first(serve: Serve) -> None:
    """Under a stream of later ones, last in first out: max_wait_ms ends the wait."""
    served = serve(policy="lifo", max_running=1, max_wait_ms=5.0)
    served.add(0, max_tokens=1)
    for request_id in range(1, 40):
        served.add(request_id, max_tokens=1)
        served.step()
    assert order_of_starts(served).index(0) <= 6
    served.drain()


def test_promotion_is_for_good(serve: Serve) -> None:
    """Whoever was promoted is not the first to lose its blocks again."""
    served = serve(policy="lifo", max_running=2, max_wait_ms=2.0, num_blocks=7)
    served.add(0, max_tokens=20)
    for request_id in range(1, 30):
        served.add(request_id, max_tokens=6)
        served.step()
    served.drain()
    events = served.of(RequestPreempted)
    assert sum(event.request_id == 0 for event in events) <= 1


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30), most=st.integers(0, 3))
def test_a_large_one_is_overtaken_so_often_and_not_more(lengths: list[int], most: int) -> None:
    """While a large request does not fit, at most max_overtakes smaller ones begin before it."""
    served = Served(num_blocks=8, max_overtakes=most, watermark_ratio=0.0)
    served.add(0, num_tokens=8, max_tokens=4)
    served.step()
    large = served.add(1, num_tokens=28, max_tokens=1)
    for request_id, length in enumerate(lengths, 2):
        served.add(request_id, num_tokens=length, max_tokens=2)
        served.step()
    served.drain()
    starts = order_of_starts(served)
    assert starts.index(1) - 1 <= most
    assert large.num_overtakes <= most
    assert len(starts) == len(lengths) + 2


def test_small_ones_do_not_wait_for_a_large_one_for_ever(serve: Serve) -> None:
    """What fits beside the running ones begins, though it came later."""
    served = serve(num_blocks=8, watermark_ratio=0.0)
    served.add(0, num_tokens=8, max_tokens=12)
    served.step()
    served.add(1, num_tokens=28, max_tokens=1)
    served.add(2, num_tokens=4, max_tokens=1)
    assert began(served.step()) == [2]


def test_the_watermark_is_left_for_those_that_run(serve: Serve) -> None:
    """Admission stops above it, unless nothing runs."""
    served = serve(num_blocks=10, watermark_ratio=0.4)
    for request_id in range(3):
        served.add(request_id, num_tokens=16, max_tokens=1)
    assert began(served.step()) == [0]
    served = serve(num_blocks=10, watermark_ratio=0.0)
    for request_id in range(3):
        served.add(request_id, num_tokens=16, max_tokens=1)
    assert began(served.step()) == [0, 1]


def test_the_merge_window_gathers_arrivals(serve: Serve) -> None:
    """The first waits so long for others; an empty step says until when. Who decodes does not wait."""
    served = serve(batch_merge_window_ms=5.0)
    served.add(1, max_tokens=20)
    step = served.scheduler.schedule()
    assert not step
    assert step.wake_ns == 5 * MS
    served.clock.advance(2 * MS)
    served.add(2, max_tokens=20)
    assert not served.scheduler.schedule()
    served.clock.sleep_until(5 * MS)
    assert began(served.step()) == [1, 2]
    served.add(3)
    step = served.step()
    assert (len(step.decodes), began(step)) == (2, [])


def test_a_full_batch_does_not_wait_for_the_window(serve: Serve) -> None:
    """As many as may run, or as many tokens as a step has, begin at once."""
    served = serve(batch_merge_window_ms=5.0, max_running=2)
    served.add(1)
    served.add(2)
    assert began(served.step()) == [1, 2]
    served = serve(batch_merge_window_ms=5.0, max_batch_tokens=8)
    served.add(1, num_tokens=9)
    assert began(served.step()) == [1]


def test_steps_begin_at_multiples_of_the_period(serve: Serve) -> None:
    """Arrivals join at the next one; an empty step says when that is, and without requests none is held."""
    served = serve(batch_period_ms=5.0)
    assert served.scheduler.schedule().wake_ns is None
    served.clock.advance(2 * MS)
    served.add(1, max_tokens=20)
    step = served.scheduler.schedule()
    assert (bool(step), step.wake_ns) == (False, 5 * MS)
    served.add(2, max_tokens=20)
    assert not served.scheduler.schedule()
    served.clock.sleep_until(5 * MS)
    assert began(served.step()) == [1, 2]
    assert served.scheduler.schedule().wake_ns == 10 * MS
    served.clock.sleep_until(12 * MS)  # a clock of a machine wakes late
    assert len(served.step().decodes) == 2
    assert served.scheduler.schedule().wake_ns == 15 * MS


@given(period=st.integers(1, 9), gaps=st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_no_step_begins_between_multiples(period: int, gaps: list[int]) -> None:
    """Whenever requests come, and all of them end."""
    served = Served(batch_period_ms=float(period))
    for request_id, gap in enumerate(gaps):
        served.clock.advance(gap * MS)
        served.add(request_id)
    while served.scheduler.requests:
        step = served.step()
        if not step:
            served.clock.sleep_until(step.wake_ns or 0)
    begins = [event.now_ns for event in served.of(StepScheduled) if event.batch_size]
    assert begins
    assert all(begin % (period * MS) < MS for begin in begins)


def test_a_step_begins_prompts_of_one_bucket(serve: Serve) -> None:
    """Short prompts run without the long one's step; each bucket has its turn in the order of arrival."""
    served = serve(length_buckets=(4, 8))
    for request_id, length in enumerate((3, 10, 4, 8, 9)):
        served.add(request_id, num_tokens=length, max_tokens=8)
    assert [began(served.step()) for _ in range(3)] == [[0, 2], [1, 4], [3]]


def test_the_adaptive_limit_stops_a_thrashing_pool(serve: Serve) -> None:
    """With it, fewer requests are preempted in a pool that cannot hold what max_running allows."""

    def num_preemptions(**settings: Any) -> int:
        served = serve(num_blocks=48, max_running=16, watermark_ratio=0.0, **settings)
        for request_id in range(80):
            served.add(request_id, num_tokens=4, max_tokens=24)
        served.drain()
        return len(served.of(RequestPreempted))

    assert num_preemptions(adaptive_batch_size=True, batch_average_steps=8) < num_preemptions()


def test_a_group_wider_than_the_limit_runs_alone(serve: Serve) -> None:
    """A preemption may bring the adaptive limit below a group's width; it runs when nothing else does."""
    served = serve(num_blocks=6, adaptive_batch_size=True, batch_average_steps=64)
    served.add(1, max_tokens=16)
    served.add(2, max_tokens=16)
    served.drain()
    served.add(3, max_tokens=4, num_sequences=3)
    served.drain()
    assert max(event.batch_size for event in served.of(StepScheduled)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0"),
        ({"max_running": True}, "max_running is True"),
        ({"policy": "random"}, "policy is 'random'.*'fcfs', 'lifo', 'priority'"),
        ({"watermark_ratio": 1.5}, "watermark_ratio is 1.5"),
        ({"max_overtakes": -1}, "max_overtakes is -1"),
        ({"max_wait_ms": float("nan")}, "max_wait_ms is nan"),
        ({"batch_merge_window_ms": -1}, "batch_merge_window_ms is -1"),
        ({"batch_period_ms": float("nan")}, "batch_period_ms is nan"),
        ({"length_buckets": (8, 4)}, "length_buckets is \\(8, 4\\)"),
        ({"length_buckets": (1, 4)}, "length_buckets is \\(1, 4\\)"),
        ({"adaptive_batch_size": 1}, "adaptive_batch_size is 1"),
        ({"max_chunk_tokens": 8, "chunked_prefill": False}, "chunked_prefill is off"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    """A setting that cannot work is an error when it is made."""
    with pytest.raises(ConfigError, match=message):
        SchedulerConfig(**settings)
