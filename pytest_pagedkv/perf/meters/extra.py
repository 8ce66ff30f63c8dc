"""The meters that run besides the clock where they are asked for."""

from collections.abc import Callable, Sequence

from pytest_pagedkv.perf.meters.call import Call
from pytest_pagedkv.perf.meters.memory import peak_device_bytes, peak_host_bytes
from pytest_pagedkv.perf.meters.python_calls import PYTHON_CALLS, python_calls

__all__ = ["extra_meters"]

_METERS: dict[str, dict[str, Callable[[Call], int | None]]] = {
    "python_calls": {PYTHON_CALLS: python_calls},
    "peak_memory": {"peak_host_bytes": peak_host_bytes, "peak_device_bytes": peak_device_bytes},
}


def extra_meters(names: Sequence[str], call: Call) -> dict[str, int]:
    """What these meters say of one call each; nothing where a meter has nothing to measure.

    Args:
        names: of meters; "cachegrind", which needs a process of its own, is left out.
        call: what is measured; it has been called before.
    """
    wanted = [meter for name in names for meter in _METERS.get(name, {}).items()]
    found = {name: meter(call) for name, meter in wanted}
    return {name: value for name, value in found.items() if value is not None}
