"""Host memory for pages: one mapping, cut into slots."""

import logging
import mmap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagedkv.errors import ConfigError
from pagedkv.memory import available_host_memory

__all__ = ["PAGE_ALIGNMENT", "Bytes", "HostPool", "Pin", "page_stride"]

Bytes = npt.NDArray[np.uint8]
Pin = Callable[[int, int], bool]
"""Pins so many bytes from an address on; whether that was granted."""
PAGE_ALIGNMENT = 4096
"""What direct IO asks of addresses, offsets and sizes, in bytes."""
_SHARE = 4  # without a size, one part in so many of the memory that is left
_log = logging.getLogger("pagedkv")


def page_stride(page_bytes: int) -> int:
    """What a page takes in host memory and in the file, in bytes."""
    return -(-page_bytes // PAGE_ALIGNMENT) * PAGE_ALIGNMENT


@dataclass(frozen=True, slots=True)
class HostPool:
    """Slots of host memory.

    Attributes:
        memory: `[num_slots, stride]` (uint8) a row a slot; the mapping lives as long as anybody has a view.
        page_bytes: what of a slot a page takes.
        is_pinned: whether a GPU may copy from and to it by itself.
    """

    memory: Bytes
    page_bytes: int
    is_pinned: bool

    @classmethod
    def open(
        cls, page_bytes: int, *, num_blocks: int, pinned_bytes: int | None, pin: Pin | None = None
    ) -> "HostPool":
        """Map memory, and pin it where there is a GPU.

        Args:
            page_bytes: bytes of a page.
            num_blocks: blocks of the device.
            pinned_bytes: size of the pool; None for as many slots as there are blocks, but at most a quarter
                of what the host has left.
            pin: how memory is pinned; None if nobody asks for that.

        Raises:
            ConfigError: the host does not have that much, or it holds no page.
        """
        stride = page_stride(page_bytes)
        num_slots = _num_slots(page_bytes, stride, num_blocks, pinned_bytes)
        asked = num_slots
        while pin is not None and num_slots:
            memory = _mapped(num_slots, stride)
            if pin(memory.ctypes.data, memory.nbytes):
                if num_slots < asked:
                    _warn_of_pinning(asked, num_slots, stride, num_blocks * page_bytes)
                return cls(memory, page_bytes, is_pinned=True)
            num_slots //= 2
        if pin is not None:
            _warn_of_pinning(asked, 0, stride, num_blocks * page_bytes)
        return cls(_mapped(asked, stride), page_bytes, is_pinned=False)

    @property
    def num_slots(self) -> int:
        """Slots."""
        return len(self.memory)

    @property
    def stride(self) -> int:
        """Bytes from slot to slot."""
        return int(self.memory.shape[1])


def _num_slots(page_bytes: int, stride: int, num_blocks: int, pinned_bytes: int | None) -> int:
    available = available_host_memory()
    if pinned_bytes is None:
        wanted = num_blocks * stride
        size = wanted if available is None else min(wanted, available // _SHARE)
        name = f"a quarter of what the host has left ({_gib(available or 0)})"
    else:
        size, name = pinned_bytes, f"pinned_bytes ({pinned_bytes})"
    if size < stride:
        raise ConfigError(
            f"{name} holds no page: one of {page_bytes} bytes takes {stride} on the host; set pinned_bytes "
            f"to at least that, or run without offload"
        )
    if available is not None and size > available:
        raise ConfigError(
            f"pinned_bytes is {size} ({_gib(size)}, {size // stride} pages of {page_bytes} bytes), and the "
            f"host has {_gib(available)} left, which holds {available // stride} pages: ask for less"
        )
    return size // stride


def _mapped(num_slots: int, stride: int) -> Bytes:
    try:
        mapping = mmap.mmap(-1, num_slots * stride, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError) as error:
        raise ConfigError(
            f"{num_slots} pages take {_gib(num_slots * stride)}, which the host does not give: ask for less "
            f"({error})"
        ) from error
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # a kernel without them; memory is memory
        _log.debug("[Offload] The host has no huge pages")
    return np.frombuffer(mapping, np.uint8).reshape(num_slots, stride)


def _warn_of_pinning(asked: int, granted: int, stride: int, device_bytes: int) -> None:
    available = available_host_memory()
    _log.warning(
        "[Offload] Asked for %s of pinned memory, granted %s: %s. The device's blocks take %s, the host has "
        "%s left. Look at `ulimit -l`, or set pinned_bytes",
        _gib(asked * stride),
        _gib(granted * stride),
        f"{granted} pages are kept instead of {asked}"
        if granted
        else "copies will be slow, from plain memory",
        _gib(device_bytes),
        "an unknown amount" if available is None else _gib(available),
    )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
