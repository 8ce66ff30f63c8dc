"""The most memory that one call has in use at a time, beyond what was there before."""

import sys
import tracemalloc
from typing import Any

from pytest_pagedkv.perf.meters.call import Call
from pytest_pagedkv.perf.meters.quiet import quiet_gc

__all__ = ["peak_device_bytes", "peak_host_bytes"]


def peak_host_bytes(call: Call) -> int:
    """What Python's allocators gave out at most, in bytes; a library's own allocations are not seen."""
    arguments = call.arguments(1)[0]
    was_tracing = tracemalloc.is_tracing()
    with quiet_gc():
        if not was_tracing:
            tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            call.fn(*arguments)
            return max(0, tracemalloc.get_traced_memory()[1] - before)
        finally:
            if not was_tracing:
                tracemalloc.stop()


def peak_device_bytes(call: Call) -> int | None:
    """What torch's allocator on the GPU gave out at most, in bytes; None without torch or a GPU."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_available():
        return None
    arguments = call.arguments(1)[0]
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    call.fn(*arguments)
    cuda.synchronize()
    return max(0, int(cuda.max_memory_allocated()) - int(before))
