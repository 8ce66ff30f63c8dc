"""Reading pages of a layer, whatever its layout, with as few and as long copies as that allows."""

import numpy as np
import torch

from pagedkv.kernels.cpu_attention.fp8 import widen
from pagedkv.kernels.cpu_attention.tasks import Int64s
from pagedkv.kv_store import FP8_DTYPE

__all__ = ["Pages"]

_PARTS = np.arange(2)[:, None, None]  # keys, values


class Pages:
    """The pages of a layer as rows of a matrix, so that gathering them is copying rows.

    A row is the longest run that lies in memory as attention wants it: a page where heads are interleaved
    (NHD), a head's part of a page where they are not (HND).

    Args:
        kv: `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.
    """

    def __init__(self, kv: torch.Tensor) -> None:
        self._shape = kv.shape
        _, _, num_heads, block_size, head_dim = kv.shape
        by_block, by_part, by_head, by_token, _ = kv.stride()
        self._is_8_bit = kv.dtype == FP8_DTYPE
        self._kv = kv.view(torch.uint8) if self._is_8_bit else kv
        self._is_nhd = (by_head, by_token) == (head_dim, num_heads * head_dim)
        if self._is_nhd:
            outer, numel = [(kv.shape[0], by_block), (2, by_part)], block_size * num_heads * head_dim
        elif by_token == head_dim:
            outer, numel = _axes(kv, 3), block_size * head_dim
        else:
            outer, numel = _axes(kv, 4), head_dim
        self._steps = [stride // numel for _, stride in outer]
        self._has_rows = all(stride % numel == 0 for _, stride in outer)
        self._rows = self._kv
        if self._has_rows:
            num_rows = 1 + sum((size - 1) * step for (size, _), step in zip(outer, self._steps, strict=True))
            self._rows = self._kv.as_strided((num_rows, numel), (numel, 1))

    @property
    def dtype(self) -> torch.dtype:
        """What a row is gathered as; bytes if there are 8 bits."""
        return self._kv.dtype

    def places(self, blocks: Int64s) -> torch.Tensor:
        """Where the keys and values of blocks lie, for `read`: the same in all layers of a form."""
        return torch.from_numpy(self._numbers(blocks).reshape(-1) if self._has_rows else blocks)

    def read(
        self,
        places: torch.Tensor,
        shape: tuple[int, int],
        buffer: torch.Tensor,
        stored: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather the keys and values of some tasks.

        Args:
            places: of their blocks.
            shape: tasks, and blocks of each.
            buffer: one-dimensional memory for them.
            stored: where to put them before they are converted to the dtype of the buffer; None if they
                are of that dtype.

        Returns:
            Keys and values, each `[num_tasks, num_kv_heads, num_pages * block_size, head_dim]`, views of the
            buffer.
        """
        num_tasks, num_tokens = shape[0], shape[1] * self._shape[3]
        num_heads, head_dim = self._shape[2], self._shape[4]
        read = buffer[: 2 * num_tasks * num_tokens * num_heads * head_dim]
        gathered = read if stored is None else stored[: read.numel()]
        self._gather(places, gathered)
        if stored is not None:
            widen(gathered, read) if self._is_8_bit else read.copy_(gathered)
        if self._is_nhd:
            keys, values = read.view(2, num_tasks, num_tokens, num_heads, head_dim).transpose(2, 3)
        else:
            keys, values = read.view(2, num_tasks, num_heads, num_tokens, head_dim)
        return keys, values

    def _gather(self, places: torch.Tensor, gathered: torch.Tensor) -> None:
        if self._has_rows:
            torch.index_select(self._rows, 0, places, out=gathered.view(-1, self._rows.shape[1]))
        else:
            self._gather_slowly(places, gathered)

    def _numbers(self, blocks: Int64s) -> Int64s:
        """Rows of the blocks' keys, then of their values, in the order in which they are wanted."""
        _, _, num_heads, block_size, _ = self._shape
        numbers: Int64s = blocks * self._steps[0] + _PARTS * self._steps[1]
        if len(self._steps) > 2:
            numbers = numbers[:, :, None] + np.arange(num_heads)[:, None] * self._steps[2]
        if len(self._steps) > 3:
            numbers = numbers[..., None] + np.arange(block_size) * self._steps[3]
        return numbers

    def _gather_slowly(self, blocks: torch.Tensor, gathered: torch.Tensor) -> None:
        """For strides that are no multiples of a row."""
        pages = self._kv[blocks].movedim(2, 0)  # [2, tasks, pages, heads, block_size, head_dim]
        in_order = pages.transpose(3, 4) if self._is_nhd else pages.transpose(2, 3)
        gathered.view(in_order.shape).copy_(in_order)


def _axes(kv: torch.Tensor, num_axes: int) -> list[tuple[int, int]]:
    """Size and stride of the first axes."""
    return list(zip(kv.shape, kv.stride(), strict=True))[:num_axes]
