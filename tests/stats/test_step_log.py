"""What each step was like, beside what was counted over all of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedkv import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.scheduler import Scheduler
from pagedkv.simulate import SimulationResult, device_profile, simulate
from pagedkv.stats import COLUMNS, Counters, StepLog
from pagedkv.traces import Trace, generate

CACHE = CacheConfig(num_blocks=150, block_size=16)


def busy(seed: int = 0) -> Trace:
    """Requests with samples, of which not all fit at once."""
    trace = generate("samples", num_requests=40, seed=seed, block_size=16)
    requests = (
        replace(each, arrival_ms=index, num_output_tokens=40) for index, each in enumerate(trace.requests)
    )
    return replace(trace, requests=tuple(requests))


def logged(
    trace: Trace, cache: CacheConfig = CACHE, **others: object
) -> tuple[StepLog, Counters, SimulationResult]:
    """Serve a trace, and log it."""
    logs: list[StepLog] = []
    counters = Counters()
    log_settings = {name: others.pop(name) for name in ("max_steps", "steps_between_looks") if name in others}

    def observe(scheduler: Scheduler) -> None:
        logs.append(StepLog(scheduler.cache, scheduler=scheduler.config, **log_settings))
        scheduler.events.attach(logs[0])
        scheduler.events.attach(counters)

    result = simulate(trace, cache=cache, observe=observe, **others)
    return logs[0], counters, result


@pytest.fixture(scope="module")
def run() -> tuple[StepLog, Counters, SimulationResult]:
    """A run in which blocks are short."""
    return logged(busy(), steps_between_looks=1)


def test_rows_add_up_to_what_was_counted(run: tuple[StepLog, Counters, SimulationResult]) -> None:
    """Each step has a row, and sums over rows are those of the counters and of the simulation."""
    log, counters, result = run
    window, totals = log.window(), counters.as_dict()
    assert len(window) == log.num_steps == len(log) == result.steps
    assert window.total("batch_size") == result.batch_size_sum
    assert window.total("duration_ns") == result.busy_ns
    assert window.total("num_preempted") == result.preemptions > 0
    assert window.total("num_lost_tokens") == result.lost_tokens
    assert window.total("num_copies") == totals["cow_copies"] + totals.get("fork_copies", 0) > 0
    assert window.total("num_lookup_blocks") == totals["lookup_blocks"]
    assert window.total("num_forks") == totals["sequences_forked"]
    assert window["max_ref_count"].max() == totals["ref_count_max"]
    assert window["fragmentation_ppm"].max() > 0
    assert window["num_waiting"].max() > 0


def test_time_is_in_steps_or_between_them(run: tuple[StepLog, Counters, SimulationResult]) -> None:
    """From the first step's beginning to the last one's end, nothing is missing and nothing counts twice."""
    window = run[0].window()
    begin = window["now_ns"][0] - window["duration_ns"][0]
    total = window.total("duration_ns") + window.total("between_ns")
    assert begin + total == window["now_ns"][-1]


@settings(max_examples=12, deadline=None)
@given(max_steps=st.integers(1, 700), num_steps=st.none() | st.integers(0, 700))
def test_the_last_steps_are_kept(
    run: tuple[StepLog, Counters, SimulationResult], max_steps: int, num_steps: int | None
) -> None:
    """A log of so many steps holds the last ones of a log of all."""
    whole, bounded = run[0], logged(busy(), max_steps=max_steps, steps_between_looks=1)[0]
    expected = min(len(whole), max_steps)
    assert (len(bounded), bounded.num_steps) == (expected, whole.num_steps)
    window = bounded.window(num_steps)
    assert len(window) == min(expected, expected if num_steps is None else num_steps)
    stop = len(whole)
    for name in COLUMNS:
        assert np.array_equal(window[name], whole.window().part(stop - len(window), stop)[name]), name


def test_pages_are_seen() -> None:
    """What goes out, what comes back, and who waits for it."""
    trace = generate("chat", num_requests=120, seed=3, block_size=16)
    log, _, result = logged(
        trace, CacheConfig(num_blocks=600, block_size=16), offload=OffloadConfig(pinned_bytes=2**31)
    )
    window, traffic = log.window(), result.offload
    assert traffic is not None
    assert traffic.num_page_outs > 0
    assert traffic.num_page_ins > 0
    for name in ("num_page_outs", "num_again", "num_in_time", "num_late", "awaited_ns"):
        told = window.total(name)
        assert told > 0 or not getattr(traffic, name), name
        assert told <= getattr(traffic, name), name


def test_a_window_knows_its_settings(run: tuple[StepLog, Counters, SimulationResult]) -> None:
    """Settings go with the numbers, into parts too."""
    part = run[0].window().part(3, 5)
    assert len(part) == 2
    assert (part.cache.num_blocks, part.scheduler) == (CACHE.num_blocks, SchedulerConfig())


def test_what_steps_wait_for_is_in_their_time() -> None:
    """Copies and compilation are parts of steps; time without a step that waits for pages is one between."""
    trace = generate("chat", num_requests=120, seed=3, block_size=16)
    cache = CacheConfig(num_blocks=600, block_size=16)
    tiers = OffloadConfig(pinned_bytes=2**31, deferred_events=False, io_streams=0)
    slow, _, _ = logged(trace, cache, offload=tiers, warm_up=False)
    quick, _, _ = logged(trace, cache, offload=OffloadConfig(pinned_bytes=2**31))
    window = slow.window()
    assert window.total("sync_ns") > 0 == quick.window().total("compile_ns")
    assert window.total("compile_ns") > 0
    assert (window["sync_ns"] + window["compile_ns"] <= window["duration_ns"]).all()
    assert (window["page_idle_ns"] <= window["between_ns"]).all()
    assert (window["num_kv_tokens"] >= window["batch_size"]).all()


def test_copies_take_what_their_bytes_take() -> None:
    """`link_ns` is bytes over bandwidth, whatever waits; a file has a column of its own."""
    trace = generate("chat", num_requests=120, seed=3, block_size=16)
    tiers = OffloadConfig(pinned_bytes=2**28, nvme_bytes=2**32)
    log, _, result = logged(trace, CacheConfig(num_blocks=600, block_size=16), offload=tiers)
    window, traffic = log.window(), result.offload
    assert traffic is not None
    device = device_profile("h200")
    moved = traffic.num_bytes["page_out"] + traffic.num_bytes["page_in"]
    assert window.total("link_ns") == pytest.approx(moved * 10**9 / device.reached_link_bytes_per_s, rel=1e-3)
    spilt_ns = traffic.num_bytes["spill"] * 10**9 / device.disk_write_bytes_per_s
    fetched_ns = traffic.num_bytes["fetch"] * 10**9 / device.disk_read_bytes_per_s
    assert window.total("file_ns") == pytest.approx(spilt_ns + fetched_ns, rel=1e-2)
    assert spilt_ns > 0
