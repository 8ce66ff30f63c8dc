"""Which implementation runs: by device, or as asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

from pagedkv.errors import KernelInputError

__all__ = ["Backend", "backend_of", "using"]

Backend = Literal["cpu", "gpu"]
"""torch on a CPU, or Triton on a GPU."""

_FORCED: ContextVar[Backend | None] = ContextVar("backend", default=None)


def backend_of(tensor: torch.Tensor) -> Backend:
    """The implementation for a tensor.

    Raises:
        KernelInputError: there is none for its device.
    """
    forced = _FORCED.get()
    if forced is not None:
        return forced
    if tensor.device.type == "cuda":
        return "gpu"
    if tensor.device.type == "cpu":
        return "cpu"
    raise KernelInputError(f"there are no kernels for {tensor.device}: move the tensors to cpu or cuda")


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Use one implementation whatever the device: Triton's interpreter takes tensors on the CPU."""
    token = _FORCED.set(backend)
    try:
        yield
    finally:
        _FORCED.reset(token)
