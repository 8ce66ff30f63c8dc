"""A GPU as torch sees it. torch is imported when one is made."""

import subprocess
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

__all__ = ["TorchCuda"]

_NS_PER_MS = 1e6
_L2_FACTOR = 2
_FALLBACK_L2_BYTES = 128 << 20


class TorchCuda:
    """The current device.

    Raises:
        RuntimeError: torch is not installed, or has no GPU.
    """

    def __init__(self) -> None:
        self._cuda = _cuda()
        self._device = self._cuda.current_device()
        properties = self._cuda.get_device_properties(self._device)
        l2_bytes = getattr(properties, "L2_cache_size", 0) or _FALLBACK_L2_BYTES
        torch: Any = import_module("torch")
        self._buffer = torch.empty(l2_bytes * _L2_FACTOR, dtype=torch.uint8, device="cuda")
        self._uuid = str(getattr(properties, "uuid", ""))

    def clear_l2(self) -> None:
        """Write a buffer that is twice as large as the cache."""
        self._buffer.zero_()

    def timed(self, fn: Callable[..., object], arguments: tuple[Any, ...]) -> Callable[[], float]:
        """Put a call with these arguments between two events in the current stream."""
        start, end = (self._cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        fn(*arguments)
        end.record()
        return lambda: float(start.elapsed_time(end)) * _NS_PER_MS

    def synchronize(self) -> None:
        """Wait for the device."""
        self._cuda.synchronize(self._device)

    def sm_clock_mhz(self) -> int:
        """Through NVML, where pynvml is installed, and else through nvidia-smi."""
        return _reader(self._uuid)()


def _cuda() -> Any:
    try:
        cuda: Any = import_module("torch").cuda
    except ImportError as error:
        raise RuntimeError('metric="cuda" needs torch, which is not installed') from error
    if not cuda.is_available():
        raise RuntimeError('metric="cuda" needs a GPU, and torch finds none here')
    return cuda


@cache
def _reader(uuid: str) -> Callable[[], int]:
    """How the clock of this device is read."""
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
    except Exception:  # noqa: BLE001 - the library's errors are its own, and the tool beside it may do
        return partial(_from_tool, uuid)
    return lambda: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))


def _from_tool(uuid: str) -> int:
    command = ["nvidia-smi", "--query-gpu=clocks.sm", "--format=csv,noheader,nounits", f"--id=GPU-{uuid}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)  # noqa: S603
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise RuntimeError(
            'metric="cuda" reads the GPU\'s clock through pynvml or nvidia-smi, and neither answers'
        ) from error
