"""Looks at what a thread changes, between two of its changes."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from pagedkv.errors import PagedKVError
from pagedkv.live import Gate

PATIENCE_S = 10.0


def test_an_idle_thread_is_looked_at_at_once() -> None:
    """Nobody has to step for an answer."""
    assert Gate().look(lambda: 7, PATIENCE_S) == 7


def test_a_busy_thread_answers_between_two_changes() -> None:
    """However rarely the lock is free, a look is made at a boundary, and sees no half change."""
    gate, pair, done = Gate(), [0, 0], threading.Event()

    def change() -> None:
        while not done.is_set():
            if gate.is_asked:
                gate.let_look()
            with gate.lock:
                pair[0] += 1
                pair[1] += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        looks = [gate.look(lambda: tuple(pair), PATIENCE_S) for _ in range(200)]
    finally:
        done.set()
        thread.join()

    assert all(first == second for first, second in looks)
    assert looks == sorted(looks)


def test_the_changing_thread_makes_the_copy_itself() -> None:
    """While it holds the lock for good, a look that waits is made by `let_look`."""
    gate, made = Gate(), []
    looker = threading.Thread(
        target=lambda: made.append(gate.look(lambda: threading.get_ident(), PATIENCE_S))
    )
    with gate.lock:
        looker.start()
        while not gate.is_asked:
            time.sleep(0.001)
        gate.let_look()
        looker.join(PATIENCE_S)

    assert made == [threading.get_ident()]


def test_what_a_copy_raises_goes_to_whoever_asked() -> None:
    """And not to the thread that changes things."""
    gate = Gate()
    with pytest.raises(ZeroDivisionError):
        gate.look(lambda: 1 // 0, PATIENCE_S)

    assert gate.look(lambda: 1, PATIENCE_S) == 1


def test_who_waits_too_long_is_told() -> None:
    """And the look is not made later."""
    gate, made, told = Gate(), [], []

    def look() -> None:
        try:
            gate.look(lambda: made.append(1), 0.02)
        except PagedKVError as error:
            told.append(str(error))

    with gate.lock:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    gate.let_look()

    assert made == []
    assert "ask again" in told[0]


def test_a_forked_child_finds_the_lock_free() -> None:
    """Even if another thread had it at the time."""
    gate, has_it, done = Gate(), threading.Event(), threading.Event()
    gate.survive_forks()

    def hold() -> None:
        with gate.lock:
            has_it.set()
            done.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    has_it.wait(PATIENCE_S)
    child = _forked(lambda: 0 if gate.lock.acquire(blocking=False) else 1)
    done.set()
    thread.join()

    assert child == 0


def _forked(run: Callable[[], int]) -> int:
    """The exit code of a forked child that runs this."""
    pid = os.fork()
    if not pid:
        code = 9
        try:
            code = run()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
