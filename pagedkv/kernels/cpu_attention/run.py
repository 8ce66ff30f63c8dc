"""Running tasks: gather, attend, merge, a batch at a time."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pagedkv.kernels.cpu_attention.pages import Pages
from pagedkv.kernels.cpu_attention.softmax import apply_sinks, attend, compute_dtype, merge
from pagedkv.kernels.cpu_attention.tasks import Int64s, Segments, Tasks, batches, split
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.workspace import Workspace

__all__ = ["Attention", "Batch"]

Bools = NDArray[np.bool_]

_MOST_NUMEL = 16 << 20
_FREE_NUMEL = 1 << 17  # numbers that are gathered in the time that a batch takes besides
_MOST_SCORES = 1 << 20  # of a call whose batches are kept: their masks have as many numbers


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


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that run at once, as far as they are the same in every layer.

    Attributes:
        shape: tasks, and query tokens of each; one of fewer repeats its last one, and writes the same again.
        pages: tasks, and pages of each.
        rows: `[num_tasks * num_rows]` query tokens.
        places: of the pages.
        behind: indices of the tokens of a task's pages that are not its own; None if there are none.
        mask: `[num_tasks, 1, num_rows of all query heads or 1, num_tokens]`, added to scores; None for none.
        unseeing: `[num_tasks * num_rows, 1, 1]`, rows that see nothing; None if there are none.
        is_first: whether nothing was written for these query tokens yet.
    """

    shape: tuple[int, int]
    pages: tuple[int, int]
    rows: torch.Tensor
    places: torch.Tensor
    behind: tuple[torch.Tensor, slice, torch.Tensor] | None
    mask: torch.Tensor | None
    unseeing: torch.Tensor | None
    is_first: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Batches that are made again whenever they are needed, because they are large."""

    parts: Sequence[Tasks]
    prepare: Callable[[Tasks], Batch]

    def __iter__(self) -> Iterator[Batch]:
        return map(self.prepare, self.parts)


class Attention:
    """One call of an attention kernel.

    Args:
        query: `[num_rows, num_query_heads, head_dim]`, the query tokens of all sequences behind one another.
        kv: one layer, `[num_blocks, 2, num_kv_heads, block_size, head_dim]`.
        options: see there.
        numel_per_thread: numbers of keys and values that a batch gathers, for each thread that torch has; as
            many are its mask and scores.
        most_rows: query heads of a KV head times query tokens that a task has.
    """

    def __init__(
        self,
        query: torch.Tensor,
        kv: torch.Tensor,
        options: AttentionOptions,
        *,
        numel_per_thread: int,
        most_rows: int = 1024,
    ) -> None:
        _, _, num_kv_heads, self._block_size, head_dim = kv.shape
        self._options = options
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

        #: What batches depend on besides tables and lengths.
        self.key: Hashable = (
            (query.shape, self._dtype, kv.shape, kv.stride(), kv.dtype),
            (options.sliding_window, options.soft_cap is None, most_numel, most_rows),
        )

    def batches(self, block_tables: torch.Tensor, positions: Int64s, *segments: Segments) -> Iterable[Batch]:
        """What to run; to be gone through any number of times, by any call of the same key.

        Args:
            block_tables: `[batch, max_blocks]` (int32).
            positions: `[num_rows]` place of each query token in its sequence, negative before its start.
            segments: what is read; the same query tokens only in different ones.
        """
        tasks = self._tasks(positions, segments[0])
        for more in segments[1:]:
            tasks = tasks.followed_by(self._tasks(positions, more))
        parts = list(self._parts(tasks))
        prepared = _Prepared(parts, partial(self._prepare, block_tables.numpy(), positions))
        group_size = self._query.shape[2]
        num_scores = sum(len(part) * part.num_rows.max() * part.num_tokens.max() for part in parts)
        return tuple(prepared) if num_scores * group_size <= _MOST_SCORES else prepared

    def run(self, batches: Iterable[Batch], out: torch.Tensor, workspace: Workspace | None) -> None:
        """Do the batches.

        Args:
            batches: all of the call; without any, the output is zeros.
            out: of as many elements as query, in its order; written.
            workspace: scratch memory to reuse; None for some of its own.
        """
        buffers = self._buffers(workspace or Workspace(self._query.device))
        buffers.out.zero_()
        buffers.lse.fill_(-torch.inf)
        for batch in batches:
            self._attend(batch, buffers)
        if self._options.sinks is not None:
            apply_sinks(buffers.out, buffers.lse, self._options.sinks.view(buffers.lse.shape[1:]))
        out.copy_(buffers.out.view(out.shape))

    def _tasks(self, positions: Int64s, segments: Segments) -> Tasks:
        tiled = segments.tiled(self._most_rows)
        fitting = self._most_pairs // (np.maximum(tiled.num_rows, 1) * self._block_size)
        return split(
            tiled,
            positions,
            window=self._options.sliding_window,
            block_size=self._block_size,
            most_pages=np.clip(fitting, 1, self._most_pages),
        )

    def _parts(self, tasks: Tasks) -> Iterator[Tasks]:
        if len(tasks):
            yield from batches(
                tasks,
                self._block_size,
                most_pages=self._most_pages,
                most_rows=self._most_batch_rows,
                most_pairs=self._most_pairs,
                free_pages=_FREE_NUMEL // (2 * self._page_numel),
            )

    def _prepare(self, tables: NDArray[np.int32], positions: Int64s, tasks: Tasks) -> Batch:
        num_pages = (-(-tasks.num_tokens // self._block_size))[:, None]
        places = np.arange(num_pages.max())
        # A task of fewer pages than the largest reads its first page in place of those that it lacks: what is
        # masked must be finite.
        columns = tasks.start[:, None] // self._block_size + np.where(places < num_pages, places, 0)
        blocks = tables[tasks.table[:, None], columns].astype(np.int64)
        rows = tasks.row[:, None] + np.minimum(np.arange(tasks.num_rows.max()), tasks.num_rows[:, None] - 1)
        seen = self._seen(tasks, positions[rows], blocks.shape[1] * self._block_size)
        return Batch(
            shape=(rows.shape[0], rows.shape[1]),
            pages=(blocks.shape[0], blocks.shape[1]),
            rows=torch.from_numpy(rows.reshape(-1)),
            places=self._pages.places(blocks),
            behind=self._behind(tasks, num_pages),
            mask=None if seen is None else self._mask(seen),
            unseeing=None if seen is None else _unseeing(seen),
            is_first=not tasks.wave[0],
        )

    def _behind(self, tasks: Tasks, num_pages: Int64s) -> tuple[torch.Tensor, slice, torch.Tensor] | None:
        """Tokens on the last page of each task that are not the task's."""
        if not (tasks.num_tokens % self._block_size).any():
            return None
        tokens = (num_pages - 1) * self._block_size + np.arange(self._block_size)
        which, slots = (tokens >= tasks.num_tokens[:, None]).nonzero()
        return torch.from_numpy(which), slice(None), torch.from_numpy(tokens[which, slots])

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

    def _attend(self, batch: Batch, buffers: _Buffers) -> None:
        """Attend to a batch's tokens, and merge the result into the output so far."""
        keys, values = self._pages.read(batch.places, batch.pages, buffers.kv, buffers.stored)
        if batch.behind is not None:
            keys[batch.behind] = 0
            values[batch.behind] = 0
        query = _folded(self._query.index_select(0, batch.rows), batch.shape)
        folded, folded_lse = attend(query, keys, values, batch.mask, self._options)
        out, lse = _unfolded(folded, batch.shape), _unfolded(folded_lse, batch.shape)
        if batch.unseeing is not None:
            lse = lse.masked_fill(batch.unseeing, -torch.inf)
            out = out.masked_fill(batch.unseeing[..., None], 0)
        if not batch.is_first:
            so_far = buffers.out.index_select(0, batch.rows), buffers.lse.index_select(0, batch.rows)
            out, lse = merge(*so_far, out, lse)
        buffers.out.index_copy_(0, batch.rows, out.to(buffers.out.dtype))
        buffers.lse.index_copy_(0, batch.rows, lse.to(buffers.lse.dtype))

    def _seen(self, batch: Tasks, positions: Int64s, num_tokens: int) -> Bools | None:
        """`[num_tasks, num_rows, num_tokens]`: which row sees which token; None if each sees all."""
        window = self._options.sliding_window
        is_full = (
            batch.num_tokens.min() == num_tokens and (batch.lowest - batch.start).min() >= num_tokens - 1
        )
        if is_full and (window is None or (batch.highest - batch.start).max() < window):
            return None
        places = (positions - batch.start[:, None])[..., None]
        tokens = np.arange(num_tokens)
        seen: Bools = tokens < np.minimum(places + 1, batch.num_tokens[:, None, None])
        if window is not None:
            seen &= tokens > places - window
        return seen

    def _mask(self, seen: Bools) -> torch.Tensor:
        """What is added to scores, `[num_tasks, 1, num_rows, num_tokens]`, a row for each query head."""
        mask = torch.zeros(seen.shape, dtype=self._dtype)
        mask.masked_fill_(torch.from_numpy(~seen), -torch.inf)
        if seen.shape[1] > 1:
            mask = mask.repeat_interleave(self._query.shape[2], 1)
        return mask[:, None]


def _unseeing(seen: Bools) -> torch.Tensor | None:
    """Rows that see nothing, `[num_tasks * num_rows, 1, 1]`; None if there are none."""
    is_any_seen = seen.any(axis=2)
    return None if is_any_seen.all() else torch.from_numpy(~is_any_seen.reshape(-1, 1, 1))


def _folded(rows: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """From `[num_tasks * num_rows, heads, group, ...]` to `[num_tasks, heads, num_rows * group, ...]`."""
    apart = rows.view(*shape, *rows.shape[1:]).transpose(1, 2)
    return apart.reshape(shape[0], rows.shape[1], -1, *rows.shape[3:])


def _unfolded(folded: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The way back."""
    num_tasks, num_heads = folded.shape[:2]
    apart = folded.reshape(num_tasks, num_heads, shape[1], -1, *folded.shape[3:]).transpose(1, 2)
    return apart.reshape(-1, *apart.shape[2:])
