"""IoPool: each job ends once, reads go first, and closing waits for nobody for ever."""

import gc
import threading
import weakref

import pytest

from pagedkv.errors import ConfigError, CorruptPage, OffloadError
from pagedkv.offload.mover import Moved
from pagedkv.offload.storage.io_pool import Ended, IoPool

DEADLINE_S = 20.0


def all_ended(ended: Ended, number: int) -> list[Moved]:
    """Wait for so many jobs."""
    found: list[Moved] = []
    while len(found) < number:
        assert ended.wait(DEADLINE_S), f"{len(found)} of {number} jobs ended"
        found += ended.take()
    return found


def test_each_job_ends_once():
    """With what it raised, if it did."""

    def corrupt() -> None:
        raise CorruptPage("bytes")

    def wrong() -> None:
        raise ZeroDivisionError("a mistake of ours")

    ended = Ended()
    pool = IoPool(3, "test", ended)
    for i in range(60):
        pool.submit(i, [lambda: None, corrupt, wrong][i % 3], is_read=i % 2 == 0)
    found = {moved.operation: moved.error for moved in all_ended(ended, 60)}
    assert len(found) == 60
    assert all(found[i] is None for i in range(0, 60, 3))
    assert all(isinstance(found[i], CorruptPage) for i in range(1, 60, 3))
    assert all(
        type(found[i]) is OffloadError and "a mistake of ours" in str(found[i]) for i in range(2, 60, 3)
    )
    assert pool.close(DEADLINE_S)
    assert not ended.take()


def test_reads_go_first():
    """Nobody who waits for a page waits for writes that have not begun; otherwise in the order of asking."""
    ended, begun, go = Ended(), threading.Event(), threading.Event()
    pool = IoPool(1, "test", ended)

    def first() -> None:
        begun.set()
        go.wait(DEADLINE_S)

    pool.submit(0, first, is_read=False)
    assert begun.wait(DEADLINE_S)
    for operation, is_read in ((1, False), (2, True), (3, False), (4, True)):
        pool.submit(operation, lambda: None, is_read=is_read)
    go.set()
    assert [moved.operation for moved in all_ended(ended, 5)] == [0, 2, 4, 1, 3]
    assert pool.close(DEADLINE_S)


def test_closing_leaves_a_thread_behind_that_is_stuck():
    """What has not begun never does; what the threads use is given back when the last one is free again."""
    ended, begun, go, given_back = Ended(), threading.Event(), threading.Event(), threading.Event()
    ran: list[int] = []
    pool = IoPool(2, "test", ended, given_back.set)

    def stuck() -> None:
        begun.set()
        go.wait(DEADLINE_S)

    pool.submit(0, stuck, is_read=True)
    assert begun.wait(DEADLINE_S)
    pool.submit(1, stuck, is_read=True)
    pool.submit(2, lambda: ran.append(2), is_read=True)
    assert not pool.close(0.01)
    assert not pool.close(0.01)
    assert not given_back.is_set()
    with pytest.raises(OffloadError, match="closed"):
        pool.submit(3, lambda: ran.append(3), is_read=False)
    go.set()
    assert given_back.wait(DEADLINE_S)
    assert pool.close(DEADLINE_S)
    assert not ran


def test_what_a_job_used_is_free_when_it_has_ended():
    """An idle thread keeps no memory."""

    class Memory:
        pass

    ended, memory = Ended(), Memory()
    pool = IoPool(1, "test", ended)
    gone = weakref.ref(memory)
    pool.submit(0, lambda memory=memory: None, is_read=True)
    del memory
    all_ended(ended, 1)
    pool.submit(1, lambda: None, is_read=True)
    all_ended(ended, 1)  # the thread has left the first one behind
    gc.collect()
    assert gone() is None
    assert pool.close(DEADLINE_S)


@pytest.mark.parametrize("limit", [0, 2])
def test_a_system_that_starts_no_more_threads(limit, monkeypatch):
    """It is refused with the numbers; those that were started end, and what they use is given back."""
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) == limit:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    given_back = threading.Event()
    with pytest.raises(ConfigError, match=f"{limit} of 5 threads .* use fewer io_threads"):
        IoPool(5, "test", Ended(), given_back.set)
    assert given_back.wait(DEADLINE_S)
    for thread in started:
        thread.join(DEADLINE_S)
    assert not any(thread.is_alive() for thread in started)
