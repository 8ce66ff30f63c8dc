"""Checks of integer tensors that name blocks or slots: their form always, their contents in debug mode."""

import torch

from pagedkv.errors import KernelInputError

__all__ = ["check_indices", "check_range", "check_unique"]


def check_indices(name: str, indices: torch.Tensor, shape: tuple[int, ...], like: torch.Tensor) -> None:
    """Check the form of an index tensor.

    Args:
        name: of the argument, for the message.
        indices: what was given.
        shape: what it must be.
        like: it must be on this tensor's device.

    Raises:
        KernelInputError: another shape, dtype or device, or not contiguous.
    """
    if tuple(indices.shape) != shape:
        raise KernelInputError(f"{name} has the shape {list(indices.shape)}; it must be {list(shape)}")
    if indices.dtype != torch.int64:
        raise KernelInputError(
            f"{name} is {indices.dtype}; it must be torch.int64: convert it once, not here"
        )
    if indices.device != like.device:
        raise KernelInputError(f"{name} is on {indices.device} and KV on {like.device}; move one")
    if not indices.is_contiguous():
        raise KernelInputError(f"{name} has the strides {indices.stride()}: call contiguous()")


def check_range(name: str, indices: torch.Tensor, stop: int, *, start: int = 0, what: str) -> None:
    """Check that every entry lies in `start..stop - 1`; waits for the device.

    Args:
        name: of the argument, for the message.
        indices: `[...]` (int64).
        stop: end of what exists.
        start: least entry; -1 where that one skips.
        what: what the entries name, in the plural.

    Raises:
        KernelInputError: the first that does not, by its place.
    """
    for place in ((indices < start) | (indices >= stop)).nonzero().tolist():
        skip = ", and -1 skips" if start < 0 else ""
        raise KernelInputError(
            f"{name}{place} is {int(indices[tuple(place)])}; the pool has the {what} 0 to {stop - 1}{skip}"
        )


def check_unique(name: str, indices: torch.Tensor) -> None:
    """Check that no entry of `[n]` (int64) but -1 is there twice; waits for the device.

    Raises:
        KernelInputError: the first that is, and both places.
    """
    ordered, places = indices.sort(stable=True)
    for i in ((ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)).nonzero().flatten().tolist():
        first, second = int(places[i]), int(places[i + 1])
        raise KernelInputError(
            f"{name}[{first}] and [{second}] are both {int(ordered[i])}: which is written last is not "
            "determined; drop one"
        )
