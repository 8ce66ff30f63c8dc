"""Time on the GPU: events around each call, a cold L2 cache, and no batch in which the clock changed."""

from collections.abc import Callable
from typing import Any, Protocol

from pagedkv.tracing import nvtx_range
from pytest_pagedkv.perf.meters.call import Call

__all__ = ["CudaBackend", "CudaClock", "Timed"]

_MAX_CALLS = 512
_TRIES = 5
_TOLERANCE_MHZ = 15
"""One step of the clock."""

Timed = Callable[[], float]
"""Time of one call in ns, to be asked when the device has done all work."""


class CudaBackend(Protocol):
    """What the clock needs of a GPU."""

    def clear_l2(self) -> None:
        """Put work in the queue that leaves nothing useful in the L2 cache."""

    def timed(self, fn: Callable[..., object], arguments: tuple[Any, ...]) -> Timed:
        """Put a call with these arguments between two events in the queue."""

    def synchronize(self) -> None:
        """Wait until the queue is empty."""

    def sm_clock_mhz(self) -> int:
        """The clock of the multiprocessors, now."""


class CudaClock:
    """Times batches on a GPU. A batch in which its clock changed is repeated, up to a limit.

    The clock is read and never set: with locked clocks nothing is rejected.

    Args:
        backend: the GPU.
        name: of the range that a profiler sees around each batch.
    """

    def __init__(self, backend: CudaBackend, name: str = "round") -> None:
        self._backend = backend
        self._range = nvtx_range(name)

    def batch(self, call: Call, num_calls: int) -> float | None:
        """Make this many calls, each with a cold L2 cache, whose clearing is not in the time.

        Returns:
            How long they took together in ns; None if the clock changed during each of some batches.
        """
        tries = (self._tried(call, num_calls) for _ in range(_TRIES))
        return next((took for took in tries if took is not None), None)

    def _tried(self, call: Call, num_calls: int) -> float | None:
        """One batch, in parts that a queue can hold."""
        backend, took = self._backend, 0.0
        backend.clear_l2()
        backend.synchronize()
        before = backend.sm_clock_mhz()
        for done in range(0, num_calls, _MAX_CALLS):
            took += self._part(call, min(_MAX_CALLS, num_calls - done))
        after = backend.sm_clock_mhz()
        return took if abs(after - before) <= _TOLERANCE_MHZ else None

    def _part(self, call: Call, num_calls: int) -> float:
        """While the device clears its cache, the host gets ahead of it with the launches of the call."""
        backend, times = self._backend, []
        with self._range:
            for arguments in call.arguments(num_calls):
                backend.clear_l2()
                times.append(backend.timed(call.fn, arguments))
            backend.synchronize()
        return sum(time() for time in times)
