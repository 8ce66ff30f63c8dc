"""Python calls and peak memory."""

import sys
import tracemalloc

import pytest

from pytest_pagedkv.perf.meters import Call, extra_meters
from pytest_pagedkv.perf.meters.memory import peak_device_bytes, peak_host_bytes
from pytest_pagedkv.perf.meters.python_calls import PYTHON_CALLS, python_calls


def leaf(value: int) -> int:
    """Call a function written in C."""
    return abs(value)


def tree(number: int) -> list[int]:
    """Call the leaf this often."""
    result = []
    for value in range(number):
        result += [leaf(value)]
    return result


def test_calls_are_counted_exactly() -> None:
    """The function itself, what it calls, and what C calls back; twice the same."""
    assert python_calls(Call(fn=lambda: None)) == 1
    assert python_calls(Call(fn=tree, prepare=lambda: (0,))) == 1
    assert python_calls(Call(fn=tree, prepare=lambda: (10,))) == 21
    assert python_calls(Call(fn=sorted, prepare=lambda: ([3, 1, 2],))) == 1


def test_a_function_that_fails_is_not_counted_on() -> None:
    """Its error comes through, and nothing listens afterwards."""
    with pytest.raises(ZeroDivisionError):
        python_calls(Call(fn=lambda: 1 // 0))

    assert sys.getprofile() is None
    assert python_calls(Call(fn=lambda: None)) == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="sys.monitoring has tools of its own")
def test_a_profiler_is_not_driven_away() -> None:
    """Where another one listens, the count is refused."""

    def other(*_: object) -> None:
        pass

    sys.setprofile(other)
    try:
        with pytest.raises(RuntimeError, match="while a profiler runs"):
            python_calls(Call(fn=lambda: None))
        assert sys.getprofile() is other
    finally:
        sys.setprofile(None)


def test_the_peak_is_what_one_call_adds() -> None:
    """In bytes, beyond what was there before and what its arguments take; released memory counts too."""

    def use(_argument: bytes) -> int:
        first = len(bytearray(3_000_000))
        return first + len(bytearray(1_000_000))

    peak = peak_host_bytes(Call(fn=use, prepare=lambda: (bytes(5_000_000),)))

    assert 3_000_000 <= peak < 3_100_000
    assert not tracemalloc.is_tracing()


def test_a_trace_that_runs_goes_on() -> None:
    """Somebody else's tracing is used and left on."""
    tracemalloc.start()
    try:
        assert peak_host_bytes(Call(fn=lambda: bytearray(1_000_000))) >= 1_000_000
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


class FakeCuda:
    """Memory of a GPU as torch counts it."""

    def __init__(self) -> None:
        self.used = self.peak = 1000

    def is_available(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.used

    def memory_allocated(self) -> int:
        return self.used

    def max_memory_allocated(self) -> int:
        return self.peak

    def use(self) -> None:
        self.peak = max(self.peak, self.used + 512)


def test_memory_of_a_gpu_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call adds at most; nothing where torch was not imported."""
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", type("Torch", (), {"cuda": cuda}))
    assert peak_device_bytes(Call(fn=cuda.use)) == 512

    monkeypatch.delitem(sys.modules, "torch")
    assert peak_device_bytes(Call(fn=cuda.use)) is None
    assert set(extra_meters(("peak_memory",), Call(fn=lambda: None))) == {"peak_host_bytes"}


def test_only_what_is_asked_for_is_measured() -> None:
    """By the meters' names; one that needs a process of its own is none of these."""
    assert extra_meters((), Call(fn=lambda: None)) == {}
    assert extra_meters(("python_calls", "cachegrind"), Call(fn=lambda: None)) == {PYTHON_CALLS: 1}
