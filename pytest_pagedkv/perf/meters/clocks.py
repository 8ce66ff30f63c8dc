"""The clocks: CPU time of this thread, elapsed time, time on the GPU."""

import time
from collections.abc import Callable
from typing import Protocol

from pagedkv.tracing import nvtx_range
from pytest_pagedkv.perf.meters.call import Call

__all__ = ["Clock", "HostClock", "clock_of"]


class Clock(Protocol):
    """Times batches of calls."""

    def batch(self, call: Call, num_calls: int) -> float | None:
        """Make this many calls.

        Returns:
            How long they took together in ns; None if the measurement has to be thrown away.
        """


class HostClock:
    """A clock of the host.

    Args:
        now: reads it, in ns.
        name: of the range that a profiler sees around each batch.
    """

    def __init__(self, now: Callable[[], int], name: str = "round") -> None:
        self._now = now
        self._range = nvtx_range(name)

    def batch(self, call: Call, num_calls: int) -> float:
        """Make this many calls; returns how long they took together in ns."""
        fn, now, batch = call.fn, self._now, call.arguments(num_calls)
        with self._range:
            start = now()
            for arguments in batch:
                fn(*arguments)
            return now() - start


def clock_of(metric: str, name: str = "round") -> Clock:
    """A clock for a marker's metric.

    Args:
        metric: "cpu" for the CPU time of this thread, "wall" for elapsed time, "cuda" for time on the GPU.
        name: of the range that a profiler sees around each batch.

    Raises:
        KeyError: there is no such metric.
        RuntimeError: the metric is "cuda", and torch has no GPU.
    """
    if metric == "cuda":
        from pytest_pagedkv.perf.meters.cuda import CudaClock
        from pytest_pagedkv.perf.meters.torch_cuda import TorchCuda

        return CudaClock(TorchCuda(), name)
    now = {"cpu": time.thread_time_ns, "wall": time.perf_counter_ns}
    return HostClock(now[metric], name)
