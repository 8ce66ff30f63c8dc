"""The figures of one compiled kernel."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["Limits", "Resources"]

_KIB = 1024
_WARP = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    Attributes:
        registers: of a thread.
        block_registers: of all threads of a program.
        shared_memory_bytes: of a program, opted in.

    Source: CUDA C++ Programming Guide, technical specifications per compute capability.
    """

    registers: int
    block_registers: int
    shared_memory_bytes: int

    @classmethod
    def of(cls, arch: int) -> "Limits":
        """Those of an architecture; of one that is not known, those of the next older one."""
        known = max((each for each in _SHARED_KIB if each <= arch), default=min(_SHARED_KIB))
        return cls(255, 64 * _KIB, _SHARED_KIB[known] * _KIB)


_SHARED_KIB = {70: 96, 75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 120: 99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one kernel takes, and what it is made of. Instructions are counted in the code, not as they run.

    Attributes:
        variant: its name, as the provider has it.
        kernel: name of the `triton.jit` function.
        arch: that it is compiled for, 90 for sm_90.
        num_warps: warps of a program.
        registers: of a thread.
        spill_store_bytes: written to local memory by instructions of one thread, for want of registers.
        spill_load_bytes: read back.
        stack_bytes: local memory of a thread.
        shared_memory_bytes: of a program.
        instructions: all but padding.
        wide_loads: loads of 128 bits from global memory, asynchronous ones included.
        loads_64_bit: of 64 bits.
        narrow_loads: of less.
        wide_stores: stores of 128 bits to global memory.
        narrow_stores: of less.
        hmma: tensor-core instructions of one warp.
        hgmma: of a warp group (sm_90), of 16-bit and tf32 numbers.
        qgmma: of a warp group, of 8-bit floats.
        barriers: of the program.
    """

    variant: str
    kernel: str
    arch: int
    num_warps: int
    registers: int
    spill_store_bytes: int
    spill_load_bytes: int
    stack_bytes: int
    shared_memory_bytes: int
    instructions: int
    wide_loads: int
    loads_64_bit: int
    narrow_loads: int
    wide_stores: int
    narrow_stores: int
    hmma: int
    hgmma: int
    qgmma: int
    barriers: int

    @property
    def counters(self) -> dict[str, int]:
        """The figures that are compared, by name."""
        return {name: value for name, value in asdict(self).items() if name not in _IDENTITY}

    @property
    def limits(self) -> Limits:
        """Those of the architecture."""
        return Limits.of(self.arch)

    @property
    def tensor_core(self) -> int:
        """Tensor-core instructions of all families."""
        return self.hmma + self.hgmma + self.qgmma

    @property
    def spill_bytes(self) -> int:
        """Moved to and from local memory for want of registers."""
        return self.spill_store_bytes + self.spill_load_bytes

    @property
    def excesses(self) -> tuple[str, ...]:
        """What is more than the architecture has, one a string; empty for a kernel that can be launched."""
        return tuple(self._excesses())

    def _excesses(self) -> Iterator[str]:
        limits = self.limits
        found = {
            "registers": self.registers,
            "block_registers": self.registers * self.num_warps * _WARP,
            "shared_memory_bytes": self.shared_memory_bytes,
        }
        for name, value in found.items():
            limit = getattr(limits, name)
            if value > limit:
                yield f"{name} {value}, and sm_{self.arch} has {limit}"

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Resources":
        """Back from what `dataclasses.asdict` made of it.

        Raises:
            ValueError: it is something else.
        """
        types = {field.name: str if field.name in ("variant", "kernel") else int for field in fields(cls)}
        if plain.keys() != types.keys() or any(type(plain[name]) is not types[name] for name in types):
            raise ValueError("not the figures of a kernel")
        return cls(**plain)


_IDENTITY = frozenset({"variant", "kernel", "arch", "num_warps"})
