"""Clocks, and contestants in turns."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import pytest

torch = pytest.importorskip("torch")

from pagedkv.bench.timing import Contestant, CpuTimer, CudaTimer, race  # noqa: E402 # needs torch

T = TypeVar("T")
RIGHT = torch.ones(3)


class Check:
    """The sum has to be 3."""

    limit = 0.01

    def error(self, outputs: Any) -> float:
        [output] = outputs
        return abs(float(output.sum()) - 3) / 3


@dataclass
class Timer:
    """Says that every call takes a second more than the one before."""

    calls: Any = field(default_factory=lambda: count(1))

    def __call__(self, work: Callable[[], T]) -> tuple[float, T]:
        return float(next(self.calls)), work()


def contestant(name: str, run: Callable[[], Any] = lambda: RIGHT, **more: Any) -> Contestant:
    """One that is right, unless it is told otherwise."""
    return Contestant(name, run, outputs=lambda output: [output], **more)


def test_contestants_take_turns() -> None:
    """Who begins changes from round to round, and the first round does not count."""
    order: list[str] = []
    both = [contestant(name, lambda name=name: order.append(name) or RIGHT) for name in ("a", "b")]

    outcome = race(both, Check(), Timer(), seconds=0.0)

    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert outcome.timings["a"].rounds_s == (4.0, 5.0, 8.0)
    assert outcome.timings["b"].rounds_s == (3.0, 6.0, 7.0)


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.full((3,), torch.nan), torch.full((3,), torch.inf)])
@pytest.mark.parametrize("turn", [0, 2])
def test_a_wrong_result_is_no_time(bad: Any, turn: int) -> None:
    """Whoever is wrong once, be it late, has no time, and says how wrong it was; the others go on."""
    calls = count()
    flaky = contestant("flaky", lambda: bad if next(calls) == turn else RIGHT)

    outcome = race([flaky, contestant("right")], Check(), Timer(), seconds=0.0)

    assert list(outcome.timings) == ["right"]
    assert outcome.wrong["flaky"].startswith("wrong result: relative error ")
    assert next(calls) == turn + 1


def test_results_are_poisoned_before_each_call() -> None:
    """Who writes nothing leaves NaN, which is wrong, though it was right the time before."""
    out = RIGHT.clone()
    calls = count()

    def lazy() -> Any:
        return out.fill_(1.0) if next(calls) == 0 else out

    outcome = race([contestant("lazy", lazy, poison=lambda: out.fill_(torch.nan))], Check(), Timer(), 0.0)

    assert outcome.wrong == {"lazy": "wrong result: relative error nan, at most 0.01 is right"}


def test_who_raises_is_out() -> None:
    """The others go on."""

    def fail() -> Any:
        raise RuntimeError("no kernel image")

    outcome = race([contestant("broken", fail), contestant("right")], Check(), Timer(), seconds=0.0)

    assert list(outcome.timings) == ["right"]
    assert str(outcome.failed["broken"]) == "no kernel image"


def test_ctrl_c_is_nobodys_failure() -> None:
    """It ends the race."""

    def interrupted() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race([contestant("any", interrupted)], Check(), Timer(), seconds=0.0)


def test_the_cpu_clock() -> None:
    """It returns what the call returned, with the garbage collector off, and as it was afterwards."""
    elapsed, was_on = CpuTimer(evicted_bytes=1024)(gc.isenabled)

    assert elapsed > 0
    assert not was_on
    assert gc.isenabled()


def test_the_gpu_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is busy when the first event is queued; the call is between both, and is waited for."""
    queue: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            queue.append("event")

        def elapsed_time(self, _end: object) -> float:
            return 2.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda _cycles: queue.append("spin"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: queue.append("wait"))

    elapsed, _ = CudaTimer(torch.device("cpu"))(lambda: queue.append("call"))

    assert elapsed == 0.002
    assert queue == ["spin", "event", "call", "event", "wait"]
