"""A launch of a Triton kernel, described before it happens.

The launchers of this package describe; `Launch.run` does. So the ahead-of-time compiler, which calls the
same launchers with meta tensors, compiles exactly what a GPU would run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from pagedkv.errors import KernelInputError

__all__ = [
    "MAX_GRID_AXIS",
    "MIN_FP8_ARCH",
    "Launch",
    "Target",
    "num_warps_of",
    "power_of_2",
    "require_aligned",
    "tile_of",
]

MAX_GRID_AXIS = 65535
"""Programs along the second or third axis of a grid, at most."""

MIN_FP8_ARCH = 89
"""Ada, the first architecture that converts from and to e4m3."""

_ALIGNMENT = 16  # bytes: the widest load of a thread; elements: what Triton specialises strides on
_TILE_VECTORS = 512  # 8 KiB: four accesses under way per thread
_MOST_WARPS = 4


@dataclass(frozen=True, slots=True)
class Target:
    """The GPU that a kernel is for.

    Attributes:
        arch: compute capability times ten, 90 for Hopper.
        num_sms: streaming multiprocessors.
    """

    arch: int
    num_sms: int

    @classmethod
    def of(cls, device: torch.device) -> "Target":
        """The device's. For tensors on the CPU, which the interpreter runs on, a small Hopper."""
        return _target(device.index or 0) if device.type == "cuda" else _INTERPRETED


_INTERPRETED = Target(arch=90, num_sms=4)


@lru_cache
def _target(index: int) -> Target:
    properties = torch.cuda.get_device_properties(index)
    return Target(properties.major * 10 + properties.minor, properties.multi_processor_count)


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch.

    Attributes:
        kernel: the `triton.jit` function.
        grid: programs along three axes.
        arguments: what is passed at run time, by name: tensors and numbers.
        constants: what is compiled in, by name.
        num_warps: warps of a program.
        num_stages: depth of the pipeline of loads.
    """

    kernel: Any
    grid: tuple[int, int, int]
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 3

    def run(self) -> None:
        """Launch, on the current stream of the tensors' device."""
        tensor = next(value for value in self.arguments.values() if isinstance(value, torch.Tensor))
        with torch.cuda.device(tensor.get_device()):  # Triton asks for the current one; -1, the CPU, is none
            self.kernel[self.grid](
                **self.arguments, **self.constants, num_warps=self.num_warps, num_stages=self.num_stages
            )


def power_of_2(number: int) -> int:
    """The least power of two that is no smaller: Triton's tiles have no other sizes."""
    return 1 << (number - 1).bit_length()


def tile_of(num_vectors: int) -> int:
    """What a program copies of a run of so many 16-byte vectors: a power of two of them."""
    return min(_TILE_VECTORS, power_of_2(num_vectors))


def num_warps_of(tile: int) -> int:
    """Warps for a tile of so many vectors; a thread has one at least, down to a warp."""
    return min(_MOST_WARPS, max(1, tile // 32))


def require_aligned(**tensors: torch.Tensor) -> None:
    """Check what wide loads need: rows are contiguous, and begin at multiples of 16 bytes and elements.

    Kernels are compiled for that, once; without, the compiler finds 255 registers and no wide load.

    Raises:
        KernelInputError: one does not; it names the tensor and what to do.
    """
    for name, tensor in tensors.items():
        if tensor.data_ptr() % _ALIGNMENT:
            raise KernelInputError(
                f"{name} begins at an address that is no multiple of {_ALIGNMENT} bytes: copy it "
                "(tensor.clone()) or allocate it aligned"
            )
        *outer, inner = tensor.stride()
        if inner != 1 or any(stride % _ALIGNMENT for stride in outer):
            raise KernelInputError(
                f"{name} has the strides {tensor.stride()}; the last must be 1 and the others multiples of "
                f"{_ALIGNMENT} elements: call contiguous(), or pad the rows"
            )
