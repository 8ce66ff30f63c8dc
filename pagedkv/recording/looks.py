"""Looks at a cache now and then: who has which blocks, how scattered they are, what is kept below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int64s
from pagedkv.block_manager import BlockManager
from pagedkv.events import Route
from pagedkv.offload.stats import OffloadFold

__all__ = ["CELL_STATES", "LOOK_COLUMNS", "REF_COUNTS", "ROUTES", "Looks", "LooksFold"]

CELL_STATES = {".": "free", "c": "cached", "u": "in use", "s": "shared"}
"""What the cells of a pool map say: what most of their blocks are.

Free without content; free with content that a prompt may hit; in use by one reference; by several."""

REF_COUNTS = {"1": 1, "2": 2, "3-4": 3, "5-8": 5, "9-16": 9, "17+": 17}
"""Classes of reference counts, each with the least of them."""

LOOK_COLUMNS = (
    "now_ns",
    "num_steps",
    "num_in_use",
    "num_shared",
    "num_cached",
    "num_sequences",
    "fragmentation_ppm",
    "num_free_runs",
    "longest_free_run",
    "num_table_runs",
    "mean_table_run_milli",
    "num_host_pages",
    "num_file_pages",
)
"""What is noted at each look; docs/recording.md describes them."""

ROUTES: tuple[Route, ...] = ("page_out", "page_in", "spill", "fetch")

_MOST_CELLS = 256
_MOST_LOOKS = 192
_PER_MILLION = 10**6
_FREE, _CACHED, _IN_USE, _SHARED = range(4)
_LETTERS = tuple(CELL_STATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What was seen, an entry of each list for each look.

    Attributes:
        columns: numbers by name, see `LOOK_COLUMNS`.
        cells: the pool map: a letter of `CELL_STATES` for each cell, which is some blocks of consecutive ids.
        ref_counts: blocks with so many references, by the names of `REF_COUNTS`.
        moved_bytes: bytes that had been moved until then, by route; nothing without tiers.
    """

    columns: Mapping[str, Sequence[int]]
    cells: Sequence[str]
    ref_counts: Mapping[str, Sequence[int]]
    moved_bytes: Mapping[str, Sequence[int]]

    def __len__(self) -> int:
        """How many looks there are."""
        return len(self.cells)


@dataclass(frozen=True, slots=True)
class _Look:
    row: Sequence[int]
    cells: str
    ref_counts: Sequence[int]
    moved_bytes: Sequence[int]


class LooksFold:
    """Looks at a cache every so many steps, and when it is empty; the more steps there are, the more seldom.

    Args:
        cache: the cache.
        moved: what its tiers have moved; None if there are none.
    """

    def __init__(self, cache: BlockManager, moved: OffloadFold | None) -> None:
        self._cache, self._moved = cache, moved
        self._steps_between = 1
        self._emptied = 0  # steps until it was seen empty for the last time
        self._kept: list[_Look] = []
        self._starts = _cell_starts(cache.config.num_blocks)

    def begin(self, num_steps: int, now_ns: int) -> None:
        """A step begins, and so many have ended before it; look, if it is time to."""
        if num_steps % self._steps_between == 0:
            self._look_now(num_steps, now_ns)

    def finished(self, num_steps: int, now_ns: int) -> None:
        """A request has ended, behind so many steps; look, if nobody has any block now."""
        if not self._cache.num_sequences and num_steps - self._emptied >= self._steps_between:
            self._emptied = num_steps
            self._look_now(num_steps, now_ns)

    def _look_now(self, num_steps: int, now_ns: int) -> None:
        latest_ns = self._kept[-1].row[0] if self._kept else now_ns
        self._kept.append(self._look(num_steps, max(now_ns, latest_ns)))
        if len(self._kept) > _MOST_LOOKS:
            kept = _thinned(self._kept)
            self._kept = kept if len(kept) <= _MOST_LOOKS else kept[::2]
            self._steps_between *= 2

    def as_looks(self) -> Looks:
        """What was seen until now."""
        rows = [each.row for each in self._kept]
        moved = [each.moved_bytes for each in self._kept] if self._moved is not None else []
        return Looks(
            columns=_columns(LOOK_COLUMNS, rows),
            cells=[each.cells for each in self._kept],
            ref_counts=_columns(REF_COUNTS, [each.ref_counts for each in self._kept]),
            moved_bytes=_columns(ROUTES, moved) if moved else {},
        )

    def _look(self, num_steps: int, now_ns: int) -> _Look:
        cache, pool, tiers = self._cache, self._cache.pool, self._cache.tiers
        ref_counts = pool.ref_counts()
        states = _states(ref_counts, pool.cached_mask())
        found = cache.fragmentation()
        num_in_use = pool.num_blocks - pool.num_free
        row = (
            now_ns,
            num_steps,
            num_in_use,
            int(np.count_nonzero(states == _SHARED)),
            int(np.count_nonzero(states == _CACHED)),
            cache.num_sequences,
            int(found.internal_ratio * _PER_MILLION),
            found.num_free_runs,
            found.longest_free_run,
            found.num_table_runs,
            int(found.mean_table_run * 1000),
            0 if tiers is None else tiers.num_host_pages,
            0 if tiers is None else tiers.num_file_pages,
        )
        moved = (
            () if self._moved is None else tuple(self._moved.as_stats().num_bytes[each] for each in ROUTES)
        )
        return _Look(row, _cells(states, self._starts), _classes(ref_counts), moved)


def _thinned(looks: list[_Look]) -> list[_Look]:
    """Some of them, spread over time: none that is soon after the one before and soon before the next."""
    span_ns = (looks[-1].row[0] - looks[0].row[0]) * 2 // _MOST_LOOKS
    kept = looks[:1]
    for each, after in zip(looks[1:], [*looks[2:], looks[-1]], strict=True):
        if each.row[0] - kept[-1].row[0] >= span_ns or after.row[0] - each.row[0] >= span_ns:
            kept.append(each)
    return kept


def _cell_starts(num_blocks: int) -> Int64s:
    """The first block of each cell."""
    num_cells = min(num_blocks, _MOST_CELLS)
    return np.arange(num_cells) * num_blocks // num_cells


def _states(ref_counts: Int64s, cached: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    states = np.minimum(ref_counts, 2).astype(np.uint8)
    states[states > 0] += 1
    states[(states == _FREE) & cached] = _CACHED
    return states


def _cells(states: npt.NDArray[np.uint8], starts: Int64s) -> str:
    """The state of most blocks of each cell; of the one that says more, where two are as many."""
    if len(starts) == len(states):
        return _spelt(states)
    order = range(_SHARED, _FREE - 1, -1)
    counts = [np.add.reduceat(states == state, starts, dtype=np.int64) for state in order]
    return _spelt(_SHARED - np.argmax(counts, axis=0))


def _spelt(states: npt.NDArray[np.integer[Any]]) -> str:
    return "".join(_LETTERS[each] for each in states.tolist())


def _classes(ref_counts: Int64s) -> Sequence[int]:
    """Blocks in each of `REF_COUNTS`."""
    at_least = [int(np.count_nonzero(ref_counts >= least)) for least in REF_COUNTS.values()]
    return [more - most for more, most in zip(at_least, [*at_least[1:], 0], strict=True)]


def _columns(names: Sequence[str] | Mapping[str, int], rows: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
