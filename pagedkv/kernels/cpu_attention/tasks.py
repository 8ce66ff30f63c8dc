"""Which query tokens read which tokens: from a kernel's arguments to batches of work of like size."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Int64s", "Segments", "Tasks", "batches", "split"]

Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]


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
        lowest: smallest position of a query token in its sequence, negative before the start.
        highest: largest one.
    """

    table: Int64s
    row: Int64s
    num_rows: Int64s
    start: Int64s
    num_tokens: Int64s
    wave: Int64s
    lowest: Int64s
    highest: Int64s

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, chosen: "Int64s | slice") -> Self:
        return type(self)(*(getattr(self, name)[chosen] for name in self.__slots__))

    def followed_by(self, other: "Tasks") -> "Tasks":
        """These, and in later waves the others."""
        later = int(self.wave.max(initial=-1)) + 1
        moved = replace(other, wave=other.wave + later)
        return Tasks(*(np.concatenate([getattr(self, n), getattr(moved, n)]) for n in self.__slots__))


def split(
    segments: Segments, positions: Int64s, *, window: int | None, block_size: int, most_pages: Int64s
) -> Tasks:
    """Cut what the query tokens of segments see into tasks of about equal length.

    Args:
        segments: those without query tokens become no task, nor those that see nothing.
        positions: of each query token of the batch, its place in its sequence.
        window: tokens that a query token sees; None for all before it.
        block_size: tokens in a block.
        most_pages: of each segment, blocks that a task reads.
    """
    lowest, highest = _extremes(positions, segments)
    first = segments.start
    if window is not None:
        first = np.maximum(first, (lowest - window + 1) // block_size * block_size)
    stop = np.minimum(segments.stop, highest + 1)
    num_pages = np.maximum(-(-(stop - first) // block_size), 0)
    num_tasks = -(-num_pages // most_pages)
    which, wave = _repeated(num_tasks)
    task_tokens = (-(-num_pages // np.maximum(num_tasks, 1)) * block_size)[which]
    start = first[which] + wave * task_tokens
    return Tasks(
        table=segments.table[which],
        row=segments.row[which],
        num_rows=segments.num_rows[which],
        start=start,
        num_tokens=np.minimum(stop[which] - start, task_tokens),
        wave=wave,
        lowest=lowest[which],
        highest=highest[which],
    )


def batches(
    tasks: Tasks,
    block_size: int,
    *,
    most_pages: int,
    most_rows: int,
    most_pairs: int,
    free_pages: int = 0,
) -> Iterator[Tasks]:
    """Tasks of one wave and of like size, so that padding them to the largest wastes less than a quarter.

    Those of one size join the next larger ones, though, where padding takes less time than a batch of their
    own.

    Args:
        tasks: in any order.
        block_size: tokens in a block.
        most_pages: pages that a batch may read, padding included; a single task may read more.
        most_rows: query tokens of a batch, likewise.
        most_pairs: pairs of a query token and a token that it is compared with, likewise.
        free_pages: pages that are read in the time that a batch takes besides.
    """
    pages, rows = _rounded_up(-(-tasks.num_tokens // block_size)), _rounded_up(tasks.num_rows)
    order = np.lexsort((pages, rows, tasks.wave))
    tasks, pages, rows = tasks[order], pages[order], rows[order]
    others = np.diff(rows).astype(bool) | np.diff(tasks.wave).astype(bool)
    pages = _joined(pages, others, free_pages)
    for first, stop in pairwise(_bounds(np.diff(pages).astype(bool) | others)):
        num_pages, num_rows = int(pages[first]), int(rows[first])
        num_pairs = num_pages * block_size * num_rows
        step = max(1, min(most_pages // num_pages, most_rows // num_rows, most_pairs // num_pairs))
        for i in range(first, stop, step):
            yield tasks[i : min(i + step, stop)]


def _joined(pages: Int64s, others: Bools, free_pages: int) -> Int64s:
    """Sizes of sorted tasks, those that join larger ones raised to theirs.

    A task of one page joins none: padding repeats a task's first page, which must be full.

    Args:
        pages: of each task.
        others: between two tasks, whether they can never be in one batch.
        free_pages: padding that is worth it.
    """
    joined, ends = pages.copy(), np.append(others, True)
    for first, stop in reversed(list(pairwise(_bounds(np.diff(pages).astype(bool) | others)))):
        larger = pages[first] if ends[stop - 1] else joined[stop]
        if pages[first] > 1 and (larger - pages[first]) * (stop - first) <= free_pages:
            joined[first:stop] = larger
    return joined


def _bounds(changes: Bools) -> list[int]:
    """Where runs begin, and where the last one ends."""
    return [0, *(np.flatnonzero(changes) + 1).tolist(), len(changes) + 1]


def _extremes(positions: Int64s, segments: Segments) -> tuple[Int64s, Int64s]:
    """Smallest and largest position of each segment's query tokens."""
    # Between two segments reduceat sees what belongs to neither: every second result is left out.
    bounds = np.stack([segments.row, segments.row + segments.num_rows], axis=1).reshape(-1)
    padded = np.append(positions, 0)
    return np.minimum.reduceat(padded, bounds)[::2], np.maximum.reduceat(padded, bounds)[::2]


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
