"""Log lines, word for word."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pagedkv import BlockManager, CacheConfig
from pagedkv.errors import ConfigError
from pagedkv.events import (
    OffloadThrottled,
    PageInEnded,
    PagesMoved,
    RequestFinished,
    RequestHeld,
    RequestPreempted,
    RequestStarted,
    StepCommitted,
    StepCompiled,
    StepScheduled,
    StreamAwaited,
)
from pagedkv.logs import CacheLog, OffloadLog, SchedulerLog, StepTimeLog, attach_if_asked


def run(cache: BlockManager) -> None:
    """A life with a copy, a fourth reference and much waste."""
    cache.admit(1, range(9))
    for child in (2, 3, 4):
        cache.fork(1, child)
    cache.append_batch([1, 2], [5, 6])
    for seq_id in range(10, 14):
        cache.admit(seq_id, [seq_id])


def test_lines_are_exact(caplog: pytest.LogCaptureFixture) -> None:
    """Tools read these lines, so their wording is fixed."""
    cache = BlockManager(CacheConfig(num_blocks=32, block_size=8))
    cache.events.attach(CacheLog(cache))
    with caplog.at_level("DEBUG", logger="pagedkv"):
        run(cache)
    lines = [(r.levelname, r.message) for r in caplog.records]
    assert lines[:3] == [
        ("DEBUG", "[Allocator] Free blocks: 30 / 32"),
        ("DEBUG", "[Allocator] Fragmentation: 0.44"),
        ("WARNING", "[Allocator] Fragmentation > 0.4"),
    ]
    assert ("DEBUG", "[KV] Refcount over 3") in lines
    copies = lines.index(("DEBUG", "[KV] Copy-on-write: 2 copies this step"))
    told = "[KV] Copied 2 blocks of 8 tokens; 2 tokens were written since the copies before"
    assert lines[copies + 1] == ("DEBUG", told)
    assert lines[-1] == ("DEBUG", "[Allocator] Fragmentation: 0.73")


def test_alarms_start_beyond_their_bounds(caplog: pytest.LogCaptureFixture) -> None:
    """Three references, and a fragmentation of 0.4, are still quiet."""
    cache = BlockManager(CacheConfig(num_blocks=8, block_size=5))
    cache.events.attach(CacheLog(cache))
    with caplog.at_level("DEBUG", logger="pagedkv"):
        cache.admit(1, range(3))
        cache.fork(1, 2)
        cache.fork(1, 3)
    lines = [record.message for record in caplog.records]
    assert "[Allocator] Fragmentation: 0.40" in lines
    assert not {"[KV] Refcount over 3", "[Allocator] Fragmentation > 0.4"} & set(lines)


def test_the_alarm_sounds_once_for_each_rise(caplog: pytest.LogCaptureFixture) -> None:
    """While fragmentation stays high nothing is repeated; after it fell, the next rise is told."""
    cache = BlockManager(CacheConfig(num_blocks=32, block_size=8))
    cache.events.attach(CacheLog(cache))
    for seq_id in range(4):
        cache.admit(seq_id, [seq_id])
    for seq_id in range(4):
        cache.release(seq_id)
    cache.admit(9, [1])
    alarms = [r for r in caplog.records if r.message == "[Allocator] Fragmentation > 0.4"]
    assert len(alarms) == 2


PROGRAM = """
from pagedkv import BlockManager, CacheConfig
cache = BlockManager(CacheConfig(num_blocks=8, block_size=4))
cache.admit(1, [1, 2, 3])
print(cache.events.emit is not None)
"""


@pytest.mark.parametrize(
    ("level", "attached", "lines"),
    [
        ("", False, []),
        ("debug", True, ["[Allocator] Free blocks: 7 / 8", "[Allocator] Fragmentation: 0.25"]),
        ("WARNING", True, []),
        ("error", False, []),
    ],
)
def test_the_environment_switches_them_on(level: str, attached: bool, lines: list[str]) -> None:
    """PAGEDKV_LOG_LEVEL attaches a sink and writes to stderr; without it a cache has no sink at all."""
    environ = {"PAGEDKV_LOG_LEVEL": level, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(attached)
    assert done.stderr.splitlines() == lines


def test_an_unknown_level_is_refused() -> None:
    """The message names the variable and the choices."""
    cache = BlockManager(CacheConfig(num_blocks=8))
    with pytest.raises(ConfigError, match="PAGEDKV_LOG_LEVEL is 'loud'; it must be one of debug"):
        attach_if_asked(cache, {"PAGEDKV_LOG_LEVEL": "loud"})


def scheduled(batch_size: int, num_waiting: int = 1) -> StepScheduled:
    """A step of so many sequences."""
    return StepScheduled(
        now_ns=0,
        batch_size=batch_size,
        num_decodes=batch_size,
        num_prefill_tokens=0,
        num_copies=0,
        num_preempted=0,
        num_running=batch_size,
        num_waiting=num_waiting,
        longest_wait_ns=0,
    )


def test_a_collapse_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """First that the batch is reduced, and after eight steps that it has collapsed; then nothing more."""
    log = SchedulerLog()
    with caplog.at_level("DEBUG", logger="pagedkv"):
        for _ in range(400):
            log(scheduled(64))
        for _ in range(20):
            log(scheduled(8))
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("INFO", "[Scheduler] Batch size reduced: 64 → 8"),
        ("WARNING", "[Scheduler] Batch collapse detected"),
    ]


def test_the_end_of_a_collapse_is_told_with_its_time(caplog: pytest.LogCaptureFixture) -> None:
    """All its reduced steps count; a dip that was no collapse ends silently."""
    log, nothing = SchedulerLog(), np.empty(0, np.int64)
    with caplog.at_level("INFO", logger="pagedkv"):
        for size, num_steps in ((64, 400), (8, 10), (64, 1), (8, 3), (64, 1)):
            for _ in range(num_steps):
                log(scheduled(size))
                log(StepCommitted(0, 2_000_000, size, nothing, nothing))
    assert [r.message for r in caplog.records][2:] == [
        "[Scheduler] Batch size is 64 again, after 10 steps and 20.0 ms",
        "[Scheduler] Batch size reduced: 64 → 8",
    ]


def test_a_small_batch_is_no_collapse_when_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    """Where there is no more work a batch may be small, and half of the average is not below it."""
    log = SchedulerLog()
    with caplog.at_level("DEBUG", logger="pagedkv"):
        for _ in range(400):
            log(scheduled(64))
        for _ in range(20):
            log(scheduled(8, num_waiting=0))
        for _ in range(20):
            log(scheduled(32))
    assert not caplog.records


def test_decisions_are_told_with_their_reasons(caplog: pytest.LogCaptureFixture) -> None:
    """Who starts, who is held, who gives up blocks for whom, and who ends."""
    log = SchedulerLog()
    with caplog.at_level("DEBUG", logger="pagedkv"):
        log(RequestStarted(1, 20, 16, 2_500_000, False))
        log(RequestHeld("a", "3 blocks needed, 1 to be had"))
        log(RequestPreempted(1, 2, "why", 0, 5, 80))
        log(RequestFinished(2, "stop", 7, 1_000_000))
    assert [record.message for record in caplog.records] == [
        "[Scheduler] Request 1 starts after 2.5 ms: 20 tokens, 16 of them cached",
        "[Scheduler] Request a is held: 3 blocks needed, 1 to be had",
        "[Scheduler] Request 1 is preempted for request 2: why; free blocks 0 → 5, 80 computed tokens lost",
        "[Scheduler] Request 2 ends (stop) after 1.0 ms: 7 tokens generated",
    ]


def test_lines_about_pages_are_exact(caplog: pytest.LogCaptureFixture) -> None:
    """A quick page-in is quiet; a long one is told, and one that is slower than the machine is a stall."""
    ms = 1_000_000
    log = OffloadLog()
    with caplog.at_level("INFO", logger="pagedkv"):
        log(PageInEnded(4, 0, latency_ns=2 * ms, expected_ns=1 * ms))
        log(PageInEnded(4, 0, latency_ns=150 * ms, expected_ns=1 * ms, unseen_ns=148 * ms))
        assert not caplog.records
        log(PageInEnded(400, 0, latency_ns=21 * ms, expected_ns=20 * ms))
        log(PageInEnded(4, 0, latency_ns=6 * ms, expected_ns=1 * ms))
        log(OffloadThrottled("spill", 32))
        log(PagesMoved("fetch", 1, 4096, 5, error="page 7 is not what was stored"))
        log(PagesMoved("fetch", 1, 4096, 5))
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "[Offload] Page-in latency > 20ms"),
        ("WARNING", "[Offload] Page-in stall"),
        ("WARNING", "[Offload] Throttling IO thread"),
        ("WARNING", "[Offload] fetch of 1 pages failed: page 7 is not what was stored"),
    ]


def step(log: StepTimeLog, ms: float, **sizes: int) -> None:
    """A step of 32 sequences, or of these sizes, takes so many milliseconds."""
    usual = {"batch_size": 32, "num_decodes": 32, "num_prefill_tokens": 0, "num_kv_tokens": 9_000}
    log(
        StepScheduled(
            now_ns=0,
            num_copies=0,
            num_preempted=0,
            num_running=1,
            num_waiting=0,
            longest_wait_ns=0,
            **(usual | sizes),
        )
    )
    nothing = np.empty(0, np.int64)
    log(StepCommitted(0, round(ms * 1e6), 32, nothing, nothing))


def test_a_step_that_takes_much_longer_than_like_ones_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Its number, from 1, with the median of the last like ones; a prompt is not like a decode."""
    log = StepTimeLog()
    with caplog.at_level("INFO", logger="pagedkv"):
        for _ in range(40):
            step(log, 9.1)
        for _ in range(20):
            step(log, 300, batch_size=33, num_prefill_tokens=2_000)
        for _ in range(82):
            step(log, 9.1)
        step(log, 28.2)
        assert [record.message for record in caplog.records] == []
        step(log, 112)
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "[Engine] Step 144 took 112.0 ms (p50 9.1 ms)")
    ]


def test_all_time_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Each 32 steps, with the time between them, and how many decodes came late."""
    log, nothing, now_ns = StepTimeLog(), np.empty(0, np.int64), 0
    with caplog.at_level("DEBUG", logger="pagedkv"):
        for number in range(64):
            log(replace(scheduled(4), now_ns=now_ns))
            now_ns += 2_000_000 if number != 40 else 5_000_000
            log(StepCommitted(now_ns, 2_000_000, 4, nothing, nothing))
            now_ns += 500_000
    assert [r.message for r in caplog.records] == [
        "[Engine] 32 steps took 64.0 ms of 79.5 ms; 0 of 15 decodes took more than twice the median",
        "[Engine] 32 steps took 64.0 ms of 83.0 ms; 1 of 32 decodes took more than twice the median",
    ]


def test_too_few_like_steps_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The first sixteen of a kind are what the others are compared with."""
    log = StepTimeLog()
    for _ in range(15):
        step(log, 1)
    step(log, 500)
    assert not caplog.records
    step(log, 500)
    assert len(caplog.records) == 1


def test_the_median_follows_the_last_steps(caplog: pytest.LogCaptureFixture) -> None:
    """After 128 slower steps these are what is usual."""
    log = StepTimeLog()
    for _ in range(200):
        step(log, 1)
    for _ in range(200):
        step(log, 10)
    caplog.clear()
    step(log, 20)
    assert not caplog.records
    step(log, 40)
    assert caplog.records[0].message == "[Engine] Step 402 took 40.0 ms (p50 10.0 ms)"


def test_what_steps_wait_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A wait for copies at debug level, a compilation as a warning."""
    log = StepTimeLog()
    with caplog.at_level("DEBUG", logger="pagedkv"):
        log(StreamAwaited("page_in", 2_500_000))
        log(StepCompiled(2, 4_600_000_000))
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("DEBUG", "[GPU Stream Sync] wait_event"),
        ("DEBUG", "[Engine] A step stood still for 2.50 ms: page_in"),
        ("WARNING", "[Engine] A step compiled 2 kernels in 4600.0 ms"),
    ]
