"""What this machine can do: how quickly it copies, reads, and multiplies matrices."""

from collections.abc import Callable, Iterable, Sequence

import torch

from pagedkv.bench.floors import Limits
from pagedkv.bench.memory import cache_bytes
from pagedkv.bench.timing import Timer

__all__ = ["DTYPES", "measure_limits"]

DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
}
"""Dtypes by name."""

_CACHE_FACTOR = 8
"""As many times the last cache are copied: what stays in the cache is then lost in the rest."""
_LEAST_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
_TRIES = 15
_SIZES = {"cpu": 1024, "cuda": 8192}
_LEAST_SIZE = 64
_SLOW_S = 0.3


def measure_limits(
    device: torch.device, dtypes: Iterable[str], timer: Timer, *, num_bytes: int | None = None
) -> Limits:
    """Measure bandwidth and matrix rates, best of several tries, with the threads that torch has.

    Args:
        device: where.
        dtypes: those whose matrix rate is wanted, by name, with repetitions; fp32 is measured besides.
        timer: the clock.
        num_bytes: size of the buffers that are copied and read, and small matrices; None for buffers far
            larger than the caches, and large matrices.
    """
    size = num_bytes or max(_LEAST_BYTES[device.type], _CACHE_FACTOR * cache_bytes(device))
    copy, read = _bandwidths(device, size, timer)
    wanted = dict.fromkeys(["fp32", *dtypes])
    largest = _SIZES[device.type] if num_bytes is None else _LEAST_SIZE
    rates = {name: _matrix_rate(device, DTYPES[name], largest, timer) for name in wanted}
    return Limits(copy, read, rates)


def _bandwidths(device: torch.device, size: int, timer: Timer) -> tuple[float, float]:
    """Bytes a second of a copy, read and written together, and of reading."""
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    copy_s, read_s = _best_s([lambda: target.copy_(source), lambda: source.sum()], timer)
    return 2 * size / copy_s, size / read_s


def _matrix_rate(device: torch.device, dtype: torch.dtype, size: int, timer: Timer) -> float:
    """Operations a second of a matrix product; of a smaller one where a dtype is slow."""
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(first)

    def multiply() -> object:
        return torch.mm(first, second, out=product)

    once, _ = timer(multiply)
    if once > _SLOW_S and size > _LEAST_SIZE:
        return _matrix_rate(device, dtype, size // 2, timer)
    return 2 * size**3 / _best_s([multiply], timer)[0]


def _best_s(works: Sequence[Callable[[], object]], timer: Timer) -> list[float]:
    """Seconds of the quickest of some calls, in turns, after one that does not count."""
    rounds = [[timer(work)[0] for work in works] for _ in range(_TRIES + 1)]
    return [min(times) for times in zip(*rounds[1:], strict=True)]
