"""Devices by their data sheets: what they could do at most, and what of it engines get."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pagedkv.errors import ConfigError

__all__ = ["DEVICES", "DeviceProfile", "DtypeName", "device_profile"]

DtypeName = Literal["fp32", "bf16", "fp8"]

_PERCENT = 100
_TERA = 10**12
_GIGA = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """Limits of a device, as integers; "percent" fields say what of a peak is reached.

    Attributes:
        name: what it is called here.
        flops_per_s: peak of dense matrix products, by the type of their operands.
        memory_bytes: memory of the device.
        memory_bytes_per_s: peak bandwidth of that memory.
        link_bytes_per_s: peak bandwidth to the host, one way.
        peer_bytes_per_s: peak bandwidth to the other devices of the host, one way; 0 if there is no link.
        disk_read_bytes_per_s: sequential reads from the disks of such a host.
        disk_write_bytes_per_s: sequential writes to them.
        step_ns: what a step costs whatever it computes: scheduling, inputs, sampling, the answer's way back.
        kernel_ns: what a kernel costs besides its work, where a graph launches it.
        flops_percent: of `flops_per_s`, in the products of a step.
        memory_percent: of `memory_bytes_per_s`, in the reading of weights and KV.
        link_percent: of `link_bytes_per_s`, in copies one way.
        duplex_percent: of twice `link_bytes_per_s`, in copies both ways at once.
        peer_percent: of `peer_bytes_per_s`, in the all-reduces of a step.
    """

    name: str
    flops_per_s: Mapping[DtypeName, int]
    memory_bytes: int
    memory_bytes_per_s: int
    link_bytes_per_s: int
    peer_bytes_per_s: int
    disk_read_bytes_per_s: int
    disk_write_bytes_per_s: int
    step_ns: int
    kernel_ns: int
    flops_percent: int
    memory_percent: int
    link_percent: int
    duplex_percent: int
    peer_percent: int

    def reached_flops_per_s(self, dtype: DtypeName) -> int:
        """Operations a second that matrix products of this type reach.

        Raises:
            ConfigError: the device has no such products.
        """
        if dtype not in self.flops_per_s:
            known = ", ".join(self.flops_per_s)
            raise ConfigError(
                f"{self.name} has no {dtype} matrix products, only {known}; choose another dtype"
            )
        return self.flops_per_s[dtype] * self.flops_percent // _PERCENT

    @property
    def reached_memory_bytes_per_s(self) -> int:
        """Bandwidth that the reading of weights and KV reaches."""
        return self.memory_bytes_per_s * self.memory_percent // _PERCENT

    @property
    def reached_link_bytes_per_s(self) -> int:
        """Bandwidth that copies to or from the host reach, one way at a time."""
        return self.link_bytes_per_s * self.link_percent // _PERCENT

    @property
    def reached_duplex_bytes_per_s(self) -> int:
        """Bandwidth that copies to and from the host reach together."""
        return 2 * self.link_bytes_per_s * self.duplex_percent // _PERCENT

    @property
    def reached_peer_bytes_per_s(self) -> int:
        """Bandwidth that sums over several devices reach, one way."""
        return self.peer_bytes_per_s * self.peer_percent // _PERCENT


# What is reached of the peaks is no data sheet's business. flops_percent: FlashAttention-3 (arXiv 2407.08608)
# reports 75% of an H100's bf16 peak for attention, FlashAttention-2 (arXiv 2307.08691) 73% of an A100's;
# products of a step's sizes, with what lies between them, get less. memory_percent: copies on an H100 get 92%
# of the 3.35 TB/s; kernels that gather blocks, and the gaps between layers, take the rest.
# link_percent, duplex_percent: 50 GB/s one way and 83 both ways are what is reported of H100 hosts.
# peer_percent: protocols take about a fifth of NVLink; 370 of an H100's 450 GB/s is what NCCL's maintainers
# name for a ring (NVIDIA/nccl-tests, issue 212).
_GPU_FLOPS_PERCENT = 65
_GPU_MEMORY_PERCENT = 80
_LINK_PERCENT = 78
_DUPLEX_PERCENT = 65
_PEER_PERCENT = 80

# Assumptions: a millisecond's fifth around a step, and the microsecond between two kernels of a CUDA graph.
_GPU_STEP_NS = 200_000
_GPU_KERNEL_NS = 1_000

# NVMe: "Gen4 about 6.6 GiB/s, Gen5 14.5 GB/s" for reads; writes as data sheets of enterprise drives have them
# (Samsung PM9A3: 4.1 GB/s, PM1743: 7.1 GB/s).
_GEN4_READ, _GEN4_WRITE = 66 * 2**30 // 10, 41 * _GIGA // 10
_GEN5_READ, _GEN5_WRITE = 145 * _GIGA // 10, 71 * _GIGA // 10

# PCIe x16 one way: Gen4 "64 GB/s", Gen5 "128 GB/s" in NVIDIA's data sheets are both ways together.
_GEN4_X16 = 32 * _GIGA
_GEN5_X16 = 64 * _GIGA

# Source: NVIDIA A100 Tensor Core GPU data sheet, A100 80GB SXM.
_A100 = DeviceProfile(
    name="a100",
    flops_per_s={"fp32": 195 * _TERA // 10, "bf16": 312 * _TERA},
    memory_bytes=80 * _GIGA,
    memory_bytes_per_s=2_039 * _GIGA,
    link_bytes_per_s=_GEN4_X16,
    peer_bytes_per_s=300 * _GIGA,  # NVLink: 600 GB/s both ways
    disk_read_bytes_per_s=_GEN4_READ,
    disk_write_bytes_per_s=_GEN4_WRITE,
    step_ns=_GPU_STEP_NS,
    kernel_ns=_GPU_KERNEL_NS,
    flops_percent=_GPU_FLOPS_PERCENT,
    memory_percent=_GPU_MEMORY_PERCENT,
    link_percent=_LINK_PERCENT,
    duplex_percent=_DUPLEX_PERCENT,
    peer_percent=_PEER_PERCENT,
)

# Source: NVIDIA H100 Tensor Core GPU data sheet, H100 SXM. Its figures with sparsity are twice these.
_H100 = DeviceProfile(
    name="h100",
    flops_per_s={"fp32": 67 * _TERA, "bf16": 989 * _TERA, "fp8": 1_979 * _TERA},
    memory_bytes=80 * _GIGA,
    memory_bytes_per_s=3_350 * _GIGA,
    link_bytes_per_s=_GEN5_X16,
    peer_bytes_per_s=450 * _GIGA,  # NVLink: 900 GB/s both ways
    disk_read_bytes_per_s=_GEN5_READ,
    disk_write_bytes_per_s=_GEN5_WRITE,
    step_ns=_GPU_STEP_NS,
    kernel_ns=_GPU_KERNEL_NS,
    flops_percent=_GPU_FLOPS_PERCENT,
    memory_percent=_GPU_MEMORY_PERCENT,
    link_percent=_LINK_PERCENT,
    duplex_percent=_DUPLEX_PERCENT,
    peer_percent=_PEER_PERCENT,
)

# Source: NVIDIA H200 Tensor Core GPU data sheet, H200 SXM: an H100 with other memory.
_H200 = DeviceProfile(
    name="h200",
    flops_per_s=_H100.flops_per_s,
    memory_bytes=141 * _GIGA,
    memory_bytes_per_s=4_800 * _GIGA,
    link_bytes_per_s=_GEN5_X16,
    peer_bytes_per_s=450 * _GIGA,
    disk_read_bytes_per_s=_GEN5_READ,
    disk_write_bytes_per_s=_GEN5_WRITE,
    step_ns=_GPU_STEP_NS,
    kernel_ns=_GPU_KERNEL_NS,
    flops_percent=_GPU_FLOPS_PERCENT,
    memory_percent=_GPU_MEMORY_PERCENT,
    link_percent=_LINK_PERCENT,
    duplex_percent=_DUPLEX_PERCENT,
    peer_percent=_PEER_PERCENT,
)

# Source: NVIDIA L4 Tensor Core GPU data sheet. Its figures with sparsity are twice these.
_L4 = DeviceProfile(
    name="l4",
    flops_per_s={"fp32": 303 * _TERA // 10, "bf16": 121 * _TERA, "fp8": 2_425 * _TERA // 10},
    memory_bytes=24 * _GIGA,
    memory_bytes_per_s=300 * _GIGA,
    link_bytes_per_s=_GEN4_X16,
    peer_bytes_per_s=_GEN4_X16,  # no NVLink: over PCIe
    disk_read_bytes_per_s=_GEN4_READ,
    disk_write_bytes_per_s=_GEN4_WRITE,
    step_ns=_GPU_STEP_NS,
    kernel_ns=_GPU_KERNEL_NS,
    flops_percent=_GPU_FLOPS_PERCENT,
    memory_percent=_GPU_MEMORY_PERCENT,
    link_percent=_LINK_PERCENT,
    duplex_percent=_DUPLEX_PERCENT,
    peer_percent=_PEER_PERCENT,
)

# Source: Intel ARK, Xeon Platinum 8480+: 56 cores, 2.0 GHz base, eight channels of DDR5-4800. Operations per
# core and cycle: 2048 of bf16 with AMX, 64 of fp32 with two AVX-512 units (Intel's optimization manual). A
# server with 256 GiB; "the host" is the same memory, so a copy reads and writes it. Percents, and what a step
# and a kernel cost, are assumptions.
_CPU_CYCLES_PER_S = 56 * 2 * _GIGA
_CPU_BYTES_PER_S = 8 * 4_800 * 8 * 10**6
_CPU = DeviceProfile(
    name="cpu",
    flops_per_s={"fp32": _CPU_CYCLES_PER_S * 64, "bf16": _CPU_CYCLES_PER_S * 2_048},
    memory_bytes=256 * 2**30,
    memory_bytes_per_s=_CPU_BYTES_PER_S,
    link_bytes_per_s=_CPU_BYTES_PER_S // 2,
    peer_bytes_per_s=0,
    disk_read_bytes_per_s=_GEN4_READ,
    disk_write_bytes_per_s=_GEN4_WRITE,
    step_ns=200_000,
    kernel_ns=5_000,
    flops_percent=50,
    memory_percent=80,
    link_percent=80,
    duplex_percent=40,
    peer_percent=80,
)

DEVICES: Mapping[str, DeviceProfile] = {each.name: each for each in (_A100, _H100, _H200, _L4, _CPU)}
"""Profiles by name."""


def device_profile(device: str | DeviceProfile) -> DeviceProfile:
    """A profile, from its name if need be.

    Raises:
        ConfigError: there is none of this name.
    """
    if isinstance(device, DeviceProfile):
        return device
    if device not in DEVICES:
        raise ConfigError(f"device profile {device!r} is unknown; there are {', '.join(DEVICES)}")
    return DEVICES[device]
