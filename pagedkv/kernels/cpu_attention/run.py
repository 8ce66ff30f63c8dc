"""Running tasks: gather, attend, merge, a batch at a time."""

from collections.abc import Iterator
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

_MOST_NUMEL = 16 << 20
_FREE_NUMEL = 1 << 17  # numbers that are gathered in the time that a batch takes besides


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Scratch memory of a call.

    Attributes:
        out: `[num_rows, num_kv_heads, group_size, head_dim]` the output so far.
        lse: `[num_rows, num_kv_heads, group_size]` logarithms of its denominators.
        kv: for the keys and values of a batch.
        stored: for them as they are stored, where they are converted.
    """

    out: torch.Tensor
    lse: torch.Tensor
    kv: torch.Tensor
    stored: torch.Tensor | None


class Attention:
    """One call of an attention kernel.

    Args:
        query: `[num_rows, num_query_heads, head_dim]`, the query tokens of all sequences behind one another.
        kv: one layer, `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.
        block_tables: `[batch, max_blocks]` (int32).
        positions: `[num_rows]` place of each query token in its sequence, negative before its start.
        options: see there.
        numel_per_thread: numbers of keys and values that a batch gathers, for each thread that torch has; as
            many are its mask and scores.
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
        numel_per_thread: int,
        most_rows: int = 1024,
    ) -> None:
        _, _, num_kv_heads, self._block_size, head_dim = kv.shape
        self._tables, self._positions, self._options = block_tables.numpy(), positions, options
        self._pages = Pages(kv)
        self._dtype = compute_dtype(query.dtype, options)
        group_size = query.shape[1] // num_kv_heads
        self._query = query.reshape(-1, num_kv_heads, group_size, head_dim).to(self._dtype)
        self._page_numel = num_kv_heads * self._block_size * head_dim
        most_numel = min(numel_per_thread * torch.get_num_threads(), _MOST_NUMEL)
        self._most_pages = max(1, most_numel // (2 * self._page_numel))
        self._most_batch_rows = max(1, most_numel // (query.shape[1] * head_dim))
        self._most_rows = max(1, most_rows // group_size)
        # For a query token and a token: the mask before and after it is repeated, two bytes, and scores.
        num_score_heads = 0 if options.soft_cap is None else num_kv_heads
        self._most_pairs = max(1, most_numel // (2 + group_size * (1 + num_score_heads)))

    def tasks(self, segments: Segments) -> Tasks:
        """The tasks of some segments."""
        tiled = segments.tiled(self._most_rows)
        fitting = self._most_pairs // (np.maximum(tiled.num_rows, 1) * self._block_size)
        return split(
            tiled,
            self._positions,
            window=self._options.sliding_window,
            block_size=self._block_size,
            most_pages=np.clip(fitting, 1, self._most_pages),
        )

    def run(self, tasks: Tasks, out: torch.Tensor, workspace: Workspace | None) -> None:
        """Do the tasks.

        Args:
            tasks: all of the call; without any, the output is zeros.
            out: of as many elements as query, in its order; written.
            workspace: scratch memory to reuse; None for some of its own.
        """
        buffers = self._buffers(workspace or Workspace(self._query.device))
        buffers.out.zero_()
        buffers.lse.fill_(-torch.inf)
        for batch in self._batches(tasks):
            self._attend(batch, buffers)
        if self._options.sinks is not None:
            apply_sinks(buffers.out, buffers.lse, self._options.sinks.view(buffers.lse.shape[1:]))
        out.copy_(buffers.out.view(out.shape))

    def _batches(self, tasks: Tasks) -> Iterator[Tasks]:
        if len(tasks):
            yield from batches(
                tasks,
                self._block_size,
                most_pages=self._most_pages,
                most_rows=self._most_batch_rows,
                most_pairs=self._most_pairs,
                free_pages=_FREE_NUMEL // (2 * self._page_numel),
            )

    def _buffers(self, workspace: Workspace) -> _Buffers:
        numel = 2 * self._most_pages * self._page_numel
        is_converted = self._pages.dtype != self._dtype
        exact = torch.promote_types(self._dtype, torch.float32)
        out, lse, kv, stored = workspace.take(
            (self._query.shape, exact),
            (self._query.shape[:3], exact),
            ((numel,), self._dtype),
            ((numel if is_converted else 0,), self._pages.dtype),
        )
        return _Buffers(out, lse, kv, stored if is_converted else None)

    def _attend(self, batch: Tasks, buffers: _Buffers) -> None:
        """Attend to a batch's tokens, and merge the result into the output so far."""
        keys, values = self._gather(batch, buffers)
        # A task of fewer rows than the largest repeats its last one, and writes the same result again.
        rows = batch.row[:, None] + np.minimum(np.arange(batch.num_rows.max()), batch.num_rows[:, None] - 1)
        numbers = torch.from_numpy(rows.reshape(-1))
        seen = self._seen(batch, rows, keys.shape[2])
        mask = None if seen is None else self._mask(seen)
        query = _folded(self._query.index_select(0, numbers), rows.shape)
        folded, folded_lse = attend(query, keys, values, mask, self._options)
        out, lse = _unfolded(folded, rows.shape), _unfolded(folded_lse, rows.shape)
        if seen is not None and not (is_any_seen := seen.any(axis=2)).all():
            unseen = torch.from_numpy(~is_any_seen.reshape(-1, 1, 1))
            lse = lse.masked_fill(unseen, -torch.inf)
            out = out.masked_fill(unseen[..., None], 0)
        if batch.wave[0]:
            so_far = buffers.out.index_select(0, numbers), buffers.lse.index_select(0, numbers)
            out, lse = merge(*so_far, out, lse)
        buffers.out.index_copy_(0, numbers, out.to(buffers.out.dtype))
        buffers.lse.index_copy_(0, numbers, lse.to(buffers.lse.dtype))

    def _gather(self, batch: Tasks, buffers: _Buffers) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, `[num_tasks, num_kv_heads, num_tokens, head_dim]`; zeros behind a task's tokens.

        A task of fewer pages than the largest reads its first page in place of those that it lacks: what is
        masked must be finite.
        """
        num_pages = (-(-batch.num_tokens // self._block_size))[:, None]
        places = np.arange(num_pages.max())
        columns = batch.start[:, None] // self._block_size + np.where(places < num_pages, places, 0)
        blocks = self._tables[batch.table[:, None], columns].astype(np.int64)
        keys, values = self._pages.read(blocks, buffers.kv, buffers.stored)
        if (batch.num_tokens % self._block_size).any():
            tokens = (num_pages - 1) * self._block_size + np.arange(self._block_size)
            tasks, slots = (tokens >= batch.num_tokens[:, None]).nonzero()
            behind = torch.from_numpy(tasks), slice(None), torch.from_numpy(tokens[tasks, slots])
            keys[behind] = 0
            values[behind] = 0
        return keys, values

    def _seen(self, batch: Tasks, rows: Int64s, num_tokens: int) -> Bools | None:
        """`[num_tasks, num_rows, num_tokens]`: which row sees which token; None if each sees all."""
        window = self._options.sliding_window
        is_full = (
            batch.num_tokens.min() == num_tokens and (batch.lowest - batch.start).min() >= num_tokens - 1
        )
        if is_full and (window is None or (batch.highest - batch.start).max() < window):
            return None
        positions = (self._positions[rows] - batch.start[:, None])[..., None]
        tokens = np.arange(num_tokens)
        seen: Bools = tokens < np.minimum(positions + 1, batch.num_tokens[:, None, None])
        if window is not None:
            seen &= tokens > positions - window
        return seen

    def _mask(self, seen: Bools) -> torch.Tensor:
        """What is added to scores, `[num_tasks, 1, num_rows, num_tokens]`, a row for each query head."""
        mask = torch.zeros(seen.shape, dtype=self._dtype)
        mask.masked_fill_(torch.from_numpy(~seen), -torch.inf)
        if seen.shape[1] > 1:
            mask = mask.repeat_interleave(self._query.shape[2], 1)
        return mask[:, None]


def _folded(rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """From `[num_tasks * num_rows, heads, group, ...]` to `[num_tasks, heads, num_rows * group, ...]`."""
    apart = rows.view(*shape, *rows.shape[1:]).transpose(1, 2)
    return apart.reshape(shape[0], rows.shape[1], -1, *rows.shape[3:])


def _unfolded(folded: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The way back."""
    num_tasks, num_heads = folded.shape[:2]
    apart = folded.reshape(num_tasks, num_heads, shape[1], -1, *folded.shape[3:]).transpose(1, 2)
    return apart.reshape(-1, *apart.shape[2:])
