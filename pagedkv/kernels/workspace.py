"""Scratch memory that calls share, so that a step allocates nothing."""

from collections.abc import Sequence
from math import prod

import torch

from pagedkv.errors import ConfigError

__all__ = ["Workspace"]

_ALIGNMENT = 256  # bytes

Request = tuple[Sequence[int], torch.dtype]
"""Shape and dtype of a scratch tensor."""


class Workspace:
    """Scratch memory of calls that run one after another, on one stream.

    It grows to what the largest call needs and stays there. A CUDA graph records addresses: make its calls
    once before capturing, or give `num_bytes`. Memory that a graph has recorded is kept when it grows.

    Args:
        device: where.
        num_bytes: what to have from the start.
    """

    def __init__(self, device: torch.device | str, num_bytes: int = 0) -> None:
        self._device = torch.device(device)
        self._memory = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
        self._captured: list[torch.Tensor] = []  # what graphs may still write to

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._memory.device

    @property
    def num_bytes(self) -> int:
        """What it has now, in bytes."""
        return int(self._memory.numel())

    def take(self, *requests: Request) -> list[torch.Tensor]:
        """Tensors of these shapes and dtypes; what earlier calls took is overwritten.

        Returns:
            Contiguous tensors, 256-byte aligned among each other, not initialised.

        Raises:
            ConfigError: it would have to grow while a CUDA graph is captured.
        """
        starts, end = [], 0
        for shape, dtype in requests:
            starts.append(end)
            end += -(-prod(shape) * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        if end > self.num_bytes:
            self._grow(end)
        memory = self._memory
        if self._is_capturing() and not any(memory is kept for kept in self._captured):
            self._captured.append(memory)
        return [
            memory[start : start + prod(shape) * dtype.itemsize].view(dtype).view(*shape)
            for start, (shape, dtype) in zip(starts, requests, strict=True)
        ]

    def _is_capturing(self) -> bool:
        return self._device.type == "cuda" and bool(torch.cuda.is_current_stream_capturing())

    def _grow(self, num_bytes: int) -> None:
        if self._is_capturing():
            raise ConfigError(
                f"a call being captured needs {num_bytes} bytes of workspace, there are {self.num_bytes}: "
                "make the call once before capturing, or make the workspace that large"
            )
        self._memory = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
