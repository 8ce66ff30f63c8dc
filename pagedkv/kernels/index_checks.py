"""Checks of tensors that name blocks or slots, and of the memory that is written there.

Their form is checked always, their contents where that waits for nothing.
"""

import numpy as np
import torch

from pagedkv.errors import KernelInputError
from pagedkv.kernels.debugging import is_checking
from pagedkv.kernels.dispatch import backend_of

__all__ = ["check_indices", "check_pool", "check_range", "check_unique", "is_looking"]


def is_looking(like: torch.Tensor) -> bool:
    """Whether contents are checked in a call with this tensor: on the CPU, and where they were asked to be.

    Raises:
        KernelInputError: there are no kernels for its device.
    """
    return backend_of(like) == "cpu" or is_checking()


def check_pool(name: str, kv: torch.Tensor) -> None:
    """Check that blocks of a layer have a size, and lie apart.

    Args:
        name: of the argument, for the message.
        kv: `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.

    Raises:
        KernelInputError: one does not.
    """
    if 0 in kv.shape[1:]:
        raise KernelInputError(f"{name} has the shape {list(kv.shape)}; none may be 0")
    if any(size > 1 and stride == 0 for size, stride in zip(kv.shape, kv.stride(), strict=True)):
        raise KernelInputError(
            f"{name} has the strides {kv.stride()}: places that share memory cannot hold different numbers; "
            "call contiguous() where it was expanded"
        )


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
    """Check that every entry lies in `start..stop - 1`; waits for a GPU.

    Args:
        name: of the argument, for the message.
        indices: `[...]` (int64).
        stop: end of what exists.
        start: least entry; -1 where that one skips.
        what: what the entries name, in the plural.

    Raises:
        KernelInputError: the first that does not, by its place.
    """
    numbers = indices.cpu().numpy()
    if numbers.min(initial=stop) >= start and numbers.max(initial=start - 1) < stop:
        return
    for place in np.argwhere((numbers < start) | (numbers >= stop)).tolist():
        skip = ", and -1 skips" if start < 0 else ""
        raise KernelInputError(
            f"{name}{place} is {numbers[tuple(place)]}; the pool has the {what} 0 to {stop - 1}{skip}"
        )


def check_unique(name: str, indices: torch.Tensor) -> None:
    """Check that no entry of `[n]` (int64) but -1 is there twice; waits for a GPU.

    Raises:
        KernelInputError: the first that is, and both places.
    """
    numbers = indices.cpu().numpy()
    ordered = np.sort(numbers)
    repeated = ordered[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)]
    for number in repeated.tolist():
        first, second = np.flatnonzero(numbers == number)[:2].tolist()
        raise KernelInputError(
            f"{name}[{first}] and [{second}] are both {number}: which is written last is not determined; "
            "drop one"
        )
