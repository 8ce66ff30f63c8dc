"""Running tasks: gather, attend, merge, a batch at a time."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pagedkv.kernels.cpu_attention.pages import Pages
from pagedkv.kernels.cpu_attention.softmax import apply_sinks, attend, compute_dtype, merge
from pagedkv.kernels.cpu_attention.tasks import Int64s, Segments, Tasks, batches, split
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.workspace import Workspace

__all__ = ["Attention"]

Bools = NDArray[np.bool_]

_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Scratch memory of a call.

    Attributes:
        out: `[num_rows, num_query_heads, head_dim]` the output so far.
        lse: `[num_rows, num_query_heads]` logarithms of its denominators.
        keys: for the keys of a batch.
        values: for its values.
        stored: for either as they are stored, where they are converted.
    """

    out: torch.Tensor
    lse: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    stored: torch.Tensor | None


class Attention:
    """One call of an attention kernel.

    Args:
        query: `[num_rows, num_query_heads, head_dim]`, the query tokens of all sequences behind one another.
        kv: one layer, `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.
        block_tables: `[batch, max_blocks]` (int32).
        positions: `[num_rows]` place of each query token in its sequence, negative before its start.
        options: see there.
        bytes_per_thread: of the keys and values that a batch gathers, for each thread that torch has.
        most_rows: query heads of a KV head times query tokens that a task has.
    """

    def __init__(
        self,
        query: torch.Tensor,
        kv: torch.Tensor,
        block_tables: torch.Tensor,
        positions: Int64s,
        options: AttentionOptions,
        *,
        bytes_per_thread: int,
        most_rows: int = 1024,
    ) -> None:
        _, _, self._num_kv_heads, self._block_size, head_dim = kv.shape
        self._query, self._tables, self._positions = query, block_tables.numpy(), positions
        self._options, self._pages = options, Pages(kv)
        self._dtype = compute_dtype(query.dtype, options)
        self._page_numel = self._num_kv_heads * self._block_size * head_dim
        most_bytes = min(bytes_per_thread * torch.get_num_threads(), _MOST_BYTES)
        self._most_pages = max(1, most_bytes // (2 * self._page_numel * self._dtype.itemsize))
        self._most_batch_rows = max(1, most_bytes // (query.shape[1] * head_dim * self._dtype.itemsize))
        self._most_rows = max(1, most_rows * self._num_kv_heads // query.shape[1])

    def tasks(self, segments: Segments) -> Tasks:
        """The tasks of some segments."""
        tiled = segments.tiled(self._most_rows)
        trimmed = tiled.trimmed(self._positions, self._options.sliding_window, self._block_size)
        return split(trimmed, self._most_pages * self._block_size)

    def run(self, tasks: Tasks, out: torch.Tensor, workspace: Workspace | None) -> None:
        """Do the tasks.

        Args:
            tasks: all of the call.
            out: of as many elements as query, in its order; written.
            workspace: scratch memory to reuse; None for some of its own.
        """
        buffers = self._buffers(workspace or Workspace(self._query.device))
        buffers.out.zero_()
        buffers.lse.fill_(-torch.inf)
        for batch in batches(tasks, self._block_size, self._most_pages, self._most_batch_rows):
            self._attend(batch, buffers)
        if self._options.sinks is not None:
            apply_sinks(buffers.out, buffers.lse, self._options.sinks)
        out.copy_(buffers.out.view(out.shape))

    def _buffers(self, workspace: Workspace) -> _Buffers:
        numel = self._most_pages * self._page_numel
        is_converted = self._pages.dtype != self._dtype
        exact = torch.promote_types(self._dtype, torch.float32)
        out, lse, keys, values, stored = workspace.take(
            (self._query.shape, exact),
            (self._query.shape[:2], exact),
            ((numel,), self._dtype),
            ((numel,), self._dtype),
            ((numel if is_converted else 0,), self._pages.dtype),
        )
        return _Buffers(out, lse, keys, values, stored if is_converted else None)

    def _attend(self, batch: Tasks, buffers: _Buffers) -> None:
        """Attend to a batch's tokens, and merge the result into the output so far."""
        keys, values = self._gather(batch, buffers)
        rows = batch.row[:, None] + np.minimum(np.arange(batch.num_rows.max()), batch.num_rows[:, None] - 1)
        seen = self._seen(batch, rows, keys.shape[2])
        numbers = torch.from_numpy(rows.reshape(-1))
        query = self._folded(self._query[numbers].view(*rows.shape, *self._query.shape[1:]))
        mask = None if seen is None else self._mask(seen)
        folded, lse = attend(query, keys, values, mask, self._options)
        more, more_lse = self._unfolded(folded, rows.shape), self._unfolded(lse, rows.shape)
        if seen is not None and not (some := seen.any(axis=2)).all():
            unseen = torch.from_numpy(~some.reshape(-1, 1))
            more_lse.masked_fill_(unseen, -torch.inf)
            more.masked_fill_(unseen[..., None], 0)
        if batch.wave.any():
            more, more_lse = merge(buffers.out[numbers], buffers.lse[numbers], more, more_lse)
        buffers.out[numbers] = more.to(buffers.out.dtype)
        buffers.lse[numbers] = more_lse.to(buffers.lse.dtype)

    def _gather(self, batch: Tasks, buffers: _Buffers) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, `[num_tasks, num_kv_heads, num_tokens, head_dim]`; zeros behind a task's tokens.

        A task of fewer pages than the largest reads its first page in place of those that it lacks: what is
        masked must be finite.
        """
        num_pages = -(-batch.num_tokens // self._block_size)
        places = np.arange(num_pages.max())
        places = np.where(places < num_pages[:, None], places, 0)
        blocks = self._tables[batch.table[:, None], batch.start[:, None] // self._block_size + places]
        keys, values = (
            self._pages.read(part, blocks.astype(np.int64), buffer, buffers.stored)
            for part, buffer in ((0, buffers.keys), (1, buffers.values))
        )
        is_behind = (
            np.arange(self._block_size) >= (batch.num_tokens - (num_pages - 1) * self._block_size)[:, None]
        )
        if is_behind.any():
            tasks, slots = (torch.from_numpy(axis) for axis in is_behind.nonzero())
            tokens = torch.from_numpy((num_pages - 1) * self._block_size)[tasks] + slots
            for gathered in (keys, values):
                gathered.transpose(1, 2)[tasks, tokens] = 0
        return keys, values

    def _seen(self, batch: Tasks, rows: Int64s, num_tokens: int) -> Bools | None:
        """`[num_tasks, num_rows, num_tokens]`: which row sees which token; None if each sees all."""
        positions = self._positions[rows] - batch.start[:, None]
        window = self._options.sliding_window
        is_full = batch.num_tokens.min() == num_tokens and positions.min() >= num_tokens - 1
        if is_full and (window is None or positions.max() < window):
            return None
        tokens = np.arange(num_tokens)
        seen: Bools = tokens < np.minimum(positions + 1, batch.num_tokens[:, None])[..., None]
        if window is not None:
            seen &= tokens > (positions - window)[..., None]
        return seen

    def _mask(self, seen: Bools) -> torch.Tensor:
        """What is added to scores, `[num_tasks, 1, num_rows, num_tokens]`."""
        is_seen = torch.from_numpy(seen)
        mask = torch.zeros(seen.shape, dtype=self._dtype).masked_fill_(~is_seen, -torch.inf)
        group_size = self._query.shape[1] // self._num_kv_heads
        return (mask if seen.shape[1] == 1 else mask.repeat_interleave(group_size, 1))[:, None]

    def _folded(self, query: torch.Tensor) -> torch.Tensor:
        """`[num_tasks, num_rows, heads, dim]` to `[num_tasks, kv_heads, num_rows * group_size, dim]`."""
        num_tasks, num_rows, _, head_dim = query.shape
        grouped = query.view(num_tasks, num_rows, self._num_kv_heads, -1, head_dim).transpose(1, 2)
        return grouped.reshape(num_tasks, self._num_kv_heads, -1, head_dim).to(self._dtype)

    def _unfolded(self, folded: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """The way back, of attention or of denominators, to `[num_tasks * num_rows, heads, ...]`."""
        num_tasks, num_rows = shape
        grouped = folded.reshape(num_tasks, self._num_kv_heads, num_rows, -1, *folded.shape[3:]).transpose(
            1, 2
        )
        return grouped.reshape(num_tasks * num_rows, -1, *folded.shape[3:])
