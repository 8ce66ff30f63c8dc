"""Clocks, calibration, and the reference workload beside each round; all on virtual time."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from pytest_pagedkv.perf import meter
from pytest_pagedkv.perf.meter import measure
from pytest_pagedkv.perf.meters import Call, calibrate, clock_of
from pytest_pagedkv.perf.meters.clocks import HostClock
from pytest_pagedkv.perf.meters.cuda import CudaClock
from pytest_pagedkv.perf.meters.reference import REFERENCE


class VirtualTime:
    """Time in ns that moves when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def now(self) -> int:
        return self.now_ns

    def spend(self, duration_ns: int) -> None:
        self.now_ns += duration_ns


@pytest.fixture
def time() -> VirtualTime:
    """A clock at zero."""
    return VirtualTime()


def test_a_batch_is_as_long_as_its_calls(time: VirtualTime) -> None:
    """Arguments are made before, and take no time."""

    def prepare() -> tuple[int]:
        time.spend(1_000_000)
        return (7,)

    clock = HostClock(time.now)

    assert clock.batch(Call(fn=time.spend, prepare=prepare), 3) == 21
    assert clock.batch(Call(fn=lambda: time.spend(5)), 4) == 20


@pytest.mark.parametrize(
    ("duration_ns", "expected"),
    [(10_000_000, 1), (1_000_000, 1), (900_000, 3), (1000, 1000), (700, 2858), (1, 100_000), (0, 100_000)],
)
def test_a_batch_takes_about_two_milliseconds(duration_ns: int, expected: int) -> None:
    """The number of calls grows tenfold at most, and up to the limit."""
    made: list[int] = []

    def batch(number: int) -> float:
        made.append(number)
        return duration_ns * number

    assert calibrate(batch, 100_000) == made[-1] == expected
    assert all(later <= 10 * before for before, later in pairwise(made))


def test_a_batch_that_cannot_be_timed_grows_to_the_limit() -> None:
    """A clock that rejects everything does not keep the calibration from ending."""
    assert calibrate(lambda _: None, 1000) == 1000


def test_there_is_a_clock_for_each_metric_of_the_host() -> None:
    """CPU time and elapsed time; another name is refused."""
    for metric in ("cpu", "wall"):
        assert clock_of(metric).batch(Call(fn=lambda: None), 3) is not None
    with pytest.raises(KeyError):
        clock_of("moon")


def test_the_gpu_needs_torch_and_a_gpu() -> None:
    """Without them the refusal says what is missing."""
    with pytest.raises(RuntimeError, match='metric="cuda" needs'):
        clock_of("cuda")


@pytest.fixture
def virtual(time: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """Measure on virtual time, where the unit of reference takes what `unit_ns` says."""
    monkeypatch.setattr(meter, "clock_of", lambda *_: HostClock(time.now))
    return time


def reference(monkeypatch: pytest.MonkeyPatch, fn: Callable[[], None]) -> None:
    """Put another reference workload."""
    monkeypatch.setattr(meter, "REFERENCE", Call(fn=fn))


def test_a_round_is_a_multiple_of_the_reference_beside_it(
    virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A processor that slows down slows both: the samples grow, their ratio stays."""
    speed = [1]

    def slower() -> None:
        virtual.spend(1_000_000 * speed[0])
        speed[0] += 1

    reference(monkeypatch, slower)
    timing = measure(Call(fn=lambda: virtual.spend(10_000_000)), metric="cpu", rounds=4)

    assert timing is not None
    assert timing.samples_ns == (10_000_000,) * 4
    assert timing.reference_ns == (2e6, 2.5e6, 3.5e6, 4.5e6)  # the mean of the one before and the one after
    assert timing.calibrated == tuple(10e6 / unit for unit in timing.reference_ns)


def test_elapsed_time_has_no_reference(virtual: VirtualTime) -> None:
    """What waits is no multiple of work; its samples are as they are."""
    timing = measure(Call(fn=lambda: virtual.spend(10_000_000)), metric="wall", rounds=2)

    assert timing is not None
    assert (timing.reference_ns, timing.calibrated) == ((), (10_000_000,) * 2)


def test_the_reference_is_the_same_work_each_time() -> None:
    """It returns what it computed, so that nobody can make it cheaper without being seen."""
    assert REFERENCE.once() == REFERENCE.once() == (704_490, 1_124_250)


def test_rounds_end_with_their_budget(virtual: VirtualTime) -> None:
    """At least three, at most twenty, and no more than half a second where it is up to us."""
    slow = measure(Call(fn=lambda: virtual.spend(400_000_000)), metric="wall")
    fast = measure(Call(fn=lambda: virtual.spend(2_000_000)), metric="wall")

    assert slow is not None
    assert fast is not None
    assert (len(slow.samples_ns), len(fast.samples_ns)) == (3, 20)


class FakeGpu:
    """A GPU whose clock is told beforehand, reading by reading; it notes what is asked of it."""

    def __init__(self, *clocks_mhz: int, call_ns: float = 100.0) -> None:
        self._clocks = list(clocks_mhz)
        self._call_ns = call_ns
        self.log: list[str] = []

    def clear_l2(self) -> None:
        self.log.append("clear")

    def timed(self, fn: Callable[..., object], arguments: tuple[object, ...]) -> Callable[[], float]:
        fn(*arguments)
        self.log.append("call")
        return lambda: self._call_ns

    def synchronize(self) -> None:
        self.log.append("wait")

    def sm_clock_mhz(self) -> int:
        self.log.append("read")
        return self._clocks.pop(0) if len(self._clocks) > 1 else self._clocks[0]


def test_every_call_on_the_gpu_has_a_cold_cache() -> None:
    """The cache is cleared before each call, outside its time, and the clock is read around the batch."""
    gpu = FakeGpu(1980)

    assert CudaClock(gpu).batch(Call(fn=lambda: None), 2) == 200
    assert gpu.log == ["clear", "wait", "read", "clear", "call", "clear", "call", "wait", "read"]


def test_a_batch_with_a_clock_change_is_repeated() -> None:
    """One step of the clock is none; after a few tries the round is given up."""
    assert CudaClock(FakeGpu(1980, 1965)).batch(Call(fn=lambda: None), 1) == 100
    changing = FakeGpu(1980, 1200, 1200, 1980, 1980)

    assert CudaClock(changing).batch(Call(fn=lambda: None), 1) == 100
    assert changing.log.count("call") == 3
    assert CudaClock(FakeGpu(*[1980, 1200] * 5)).batch(Call(fn=lambda: None), 1) is None


def test_a_large_batch_runs_in_parts() -> None:
    """No more calls are put in the queue than it holds."""
    gpu = FakeGpu(1980)

    assert CudaClock(gpu).batch(Call(fn=lambda: None), 1200) == 120_000
    assert gpu.log.count("wait") == 4


def test_a_gpu_that_never_rests_gives_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every round is thrown away there is nothing to report."""
    clocks = [1980, 1200] * 1000
    monkeypatch.setattr(meter, "clock_of", lambda *_: CudaClock(FakeGpu(*clocks)))

    assert measure(Call(fn=lambda: None, prepare=tuple), metric="cuda", rounds=2) is None
