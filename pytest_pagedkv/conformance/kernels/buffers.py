"""Tensors between red zones: what is read or written beside them shows."""

from collections.abc import Sequence
from math import prod

import torch

from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["Guarded", "as_bytes", "check_inputs", "check_zones", "dtype_named", "guarded_integers"]

_ALIGNMENT = 256
_POISON = 0xFF  # a byte of which every float type makes NaN, and every integer type -1
_UNWRITTEN = 0x7F  # another one: a NaN that was read keeps its bits on its way into the output


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype of a name such as "float16"."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's bytes: its last axis becomes that of the bytes of a row."""
    return tensor.view(torch.uint8)


class Guarded:
    """A tensor with a red zone before it and one behind it, all of it poisoned.

    Args:
        shape: of the tensor.
        dtype: of the tensor.
        device: where it lies.
        order: its axes as they lie in memory, outermost first; the last one stays last.
        zone_bytes: length of a red zone, at least.

    Attributes:
        tensor: the tensor; its first element is 256-byte aligned.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: str,
        *,
        order: Sequence[int] | None = None,
        zone_bytes: int = _ALIGNMENT,
    ) -> None:
        num_bytes = prod(shape) * dtype.itemsize
        size = num_bytes + 2 * zone_bytes + _ALIGNMENT
        self._raw = torch.full((size,), _POISON, dtype=torch.uint8, device=device)
        self._start = zone_bytes + -(self._raw.data_ptr() + zone_bytes) % _ALIGNMENT
        self._stop = self._start + num_bytes
        order = tuple(order or range(len(shape)))
        body = self._raw[self._start : self._stop].view(dtype)
        in_memory = body.view([shape[axis] for axis in order])
        self.tensor = in_memory.permute([order.index(axis) for axis in range(len(shape))])
        self._kept = self._raw.clone()

    def poison(self) -> None:
        """Fill the tensor with NaN (integers: -1)."""
        as_bytes(self.tensor).fill_(_POISON)

    def expect_writes(self) -> None:
        """Fill the tensor with bytes that show where it is not written."""
        as_bytes(self.tensor).fill_(_UNWRITTEN)

    def fill_zones(self, byte: int = _POISON) -> None:
        """Fill the red zones."""
        self._raw[: self._start] = byte
        self._raw[self._stop :] = byte

    def keep(self) -> None:
        """Remember the bytes that are there now."""
        self._kept = self._raw.clone()

    @property
    def zones_changed(self) -> str:
        """Where in the red zones something was written since `keep`, in words; "" if nowhere."""
        changed = (self._raw != self._kept).nonzero().flatten()
        before = changed[changed < self._start]
        behind = changed[changed >= self._stop]
        if len(before):
            return f"{self._start - int(before[-1])} bytes before it"
        return f"{int(behind[0]) - self._stop + 1} bytes behind it" if len(behind) else ""

    @property
    def zone_bytes(self) -> bytes:
        """What is in the red zones now."""
        zones = torch.cat([self._raw[: self._start], self._raw[self._stop :]])
        return bytes(zones.cpu().numpy())

    @property
    def changed(self) -> bool:
        """Whether the tensor's bytes differ from those at `keep`."""
        body = slice(self._start, self._stop)
        return not torch.equal(self._raw[body], self._kept[body])

    @property
    def unwritten(self) -> torch.Tensor:
        """Where the tensor has not been written since `expect_writes` (bool, of its shape)."""
        itemsize = self.tensor.dtype.itemsize
        split = as_bytes(self.tensor).reshape(*self.tensor.shape, itemsize)
        return (split == _UNWRITTEN).all(-1)


def guarded_integers(
    numbers: Sequence[int] | Sequence[Sequence[int]], dtype: torch.dtype, device: str
) -> Guarded:
    """These numbers between red zones."""
    made = torch.tensor(numbers, dtype=dtype)
    guarded = Guarded(made.shape, dtype, device)
    guarded.tensor.copy_(made)
    guarded.keep()
    return guarded


def check_zones(named: dict[str, Guarded]) -> None:
    """Check the red zones.

    Raises:
        InvariantViolation: one was written to.
    """
    for name, guarded in named.items():
        if where := guarded.zones_changed:
            raise InvariantViolation("no-stray-write", f"memory around {name} was written, {where}")


def check_inputs(named: dict[str, Guarded]) -> None:
    """Check that tensors have the bytes that they had.

    Raises:
        InvariantViolation: one has not.
    """
    for name, guarded in named.items():
        if guarded.changed:
            raise InvariantViolation("inputs-unchanged", f"the call changed {name}, which it only reads")
