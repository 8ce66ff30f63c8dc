"""Which query tokens read which tokens: from a kernel's arguments to batches of work of like size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Int64s", "Segments", "Tasks", "batches", "split"]

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segments:
    """Runs of query tokens, and the tokens of a block table that each may see: arrays of one length.

    Attributes:
        table: row of the block tables.
        row: first query token, counted over the batch.
        num_rows: query tokens.
        start: first token they may see, a multiple of the block size.
        stop: the one behind the last.
    """

    table: Int64s
    row: Int64s
    num_rows: Int64s
    start: Int64s
    stop: Int64s

    def tiled(self, most_rows: int) -> "Segments":
        """The same with at most so many query tokens in each."""
        which, number = _repeated(-(-self.num_rows // most_rows))
        skipped = number * most_rows
        return Segments(
            self.table[which],
            self.row[which] + skipped,
            np.minimum(self.num_rows[which] - skipped, most_rows),
            self.start[which],
            self.stop[which],
        )

    def trimmed(self, positions: Int64s, window: int | None, block_size: int) -> "Segments":
        """The same without the tokens that none of the query tokens sees, by whole blocks at the start.

        Args:
            positions: of each query token of the batch, its place in its sequence.
            window: tokens that a query token sees; None for all before it.
            block_size: tokens in a block.
        """
        # Between two segments reduceat sees what belongs to neither: every second result is left out.
        bounds = np.stack([self.row, self.row + self.num_rows], axis=1).reshape(-1)
        padded = np.append(positions, 0)
        first, last = (f.reduceat(padded, bounds)[::2] for f in (np.minimum, np.maximum))
        start = self.start
        if window is not None:
            start = np.maximum(start, (first - window + 1) // block_size * block_size)
        return Segments(self.table, self.row, self.num_rows, start, np.minimum(self.stop, last + 1))


@dataclass(frozen=True, slots=True)
class Tasks:
    """Pieces of segments, as many tokens as fit the cache at once: arrays of one length.

    Attributes:
        table: row of the block tables.
        row: first query token.
        num_rows: query tokens.
        start: first token, a multiple of the block size.
        num_tokens: tokens, one at least.
        wave: how many tasks with the same query tokens come before; tasks of a wave share none.
    """

    table: Int64s
    row: Int64s
    num_rows: Int64s
    start: Int64s
    num_tokens: Int64s
    wave: Int64s

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, chosen: Int64s) -> Self:
        return type(self)(*(getattr(self, name)[chosen] for name in self.__slots__))

    def followed_by(self, other: "Tasks") -> "Tasks":
        """These, and in later waves the others."""
        later = int(self.wave.max(initial=-1)) + 1
        both = [np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__]
        both[-1][len(self) :] += later
        return Tasks(*both)


def split(segments: Segments, most_tokens: int) -> Tasks:
    """Cut segments into tasks.

    Args:
        segments: those with no token or no query token become no task.
        most_tokens: tokens of a task, a multiple of the block size.
    """
    lengths = np.where(segments.num_rows > 0, segments.stop - segments.start, 0)
    which, wave = _repeated(-(-np.maximum(lengths, 0) // most_tokens))
    start = segments.start[which] + wave * most_tokens
    num_tokens = np.minimum(segments.stop[which] - start, most_tokens)
    return Tasks(
        segments.table[which], segments.row[which], segments.num_rows[which], start, num_tokens, wave
    )


def batches(tasks: Tasks, block_size: int, most_pages: int, most_rows: int) -> Iterator[Tasks]:
    """Tasks of one wave and of like size, so that padding them to the largest wastes less than a quarter.

    Args:
        tasks: in any order.
        block_size: tokens in a block.
        most_pages: pages that a batch may read, padding included; a single task may read more.
        most_rows: query tokens of a batch, likewise.
    """
    pages, rows = _rounded_up(-(-tasks.num_tokens // block_size)), _rounded_up(tasks.num_rows)
    order = np.lexsort((pages, rows, tasks.wave))
    keys = np.stack([pages, rows, tasks.wave], axis=1)[order]
    changes = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    for first, stop in zip([0, *changes.tolist()], [*changes.tolist(), len(order)], strict=True):
        step = max(1, min(most_pages // int(keys[first, 0]), most_rows // int(keys[first, 1])))
        for i in range(first, stop, step):
            yield tasks[order[i : min(i + step, stop)]]


def _repeated(counts: Int64s) -> tuple[Int64s, Int64s]:
    """For counts 2, 0, 3: which one, [0, 0, 2, 2, 2], and the how manieth of it, [0, 1, 0, 1, 2]."""
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)


def _rounded_up(numbers: Int64s) -> Int64s:
    """To the next multiple of a quarter of the power of two below: 1 to 8, then 10, 12, 14, 16, 20..."""
    exponents = np.frexp(numbers)[1] - 1  # of the power of two that is not above
    steps = np.left_shift(1, np.maximum(exponents - 2, 0))
    rounded: Int64s = -(-numbers // steps) * steps
    return rounded
