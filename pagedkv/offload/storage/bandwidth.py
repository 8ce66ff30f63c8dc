"""How fast pages move here: measured once, with real pages."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from pagedkv.block_ids import Int64s
from pagedkv.errors import OffloadError
from pagedkv.events import Route
from pagedkv.offload.mover import Mover

__all__ = ["Measured", "measure_bandwidth"]

_COPY_S = 0.03  # of each direction of the host tier
_FILE_S = 0.08  # of each direction of the file
_COPY_BYTES = 32 << 20  # in one go, at most
_MOST_S = 30.0
"""After so long without an answer, a file is of no use."""
_GUESS = 100_000_000
"""Bytes per second of a file that could not be written to."""
_log = logging.getLogger("pagedkv")


class Measured(Mover, Protocol):
    """What is measured."""

    def finish(self) -> None:
        """Return when all stores have ended."""


def measure_bandwidth(mover: Measured, *, num_blocks: int, num_writers: int) -> Mapping[Route, int]:
    """Bytes per second of each route, of a mover that nobody uses yet.

    The first blocks are copied to the host and back, so that they keep what they hold; slots and places are
    overwritten. It takes about a quarter of a second, or longer where the file does.

    Args:
        mover: what moves pages.
        num_blocks: blocks of the device.
        num_writers: pages that the file takes at once.

    Raises:
        OffloadError: the file does not answer.
    """
    num_pages = max(1, min(mover.num_slots, num_blocks, _COPY_BYTES // mover.page_bytes))
    pages = np.arange(num_pages, dtype=np.int64)
    found: dict[Route, int] = {
        "page_out": _copy_bandwidth(mover, lambda: _store(mover, pages), num_pages),
        "page_in": _copy_bandwidth(mover, lambda: _load(mover, pages), num_pages),
    }
    if mover.num_places:
        try:
            found |= _file_bandwidths(mover, num_writers)
        except _NotMovedError as error:
            found |= {"spill": _GUESS, "fetch": _GUESS}
            _log.warning(
                "[Offload] The file cannot be measured, %d MB/s are assumed: %s", _GUESS / 1e6, error
            )
    return found


class _NotMovedError(Exception):
    """A page was not moved."""


def _copy_bandwidth(mover: Measured, copy: Callable[[], None], num_pages: int) -> int:
    """The quickest of some rounds; the first only touches the memory."""
    copy()
    began, best = time.perf_counter(), float("inf")
    while best == float("inf") or time.perf_counter() - began < _COPY_S:
        start = time.perf_counter()
        copy()
        best = min(best, time.perf_counter() - start)
    return max(1, round(num_pages * mover.page_bytes / best))


def _store(mover: Measured, pages: Int64s) -> None:
    mover.store(pages, pages)
    mover.finish()


def _load(mover: Measured, pages: Int64s) -> None:
    mover.load(pages, pages)
    _await(mover, 1)


def _file_bandwidths(mover: Measured, num_writers: int) -> dict[Route, int]:
    first_s = _spilled_s(mover, 1)
    num_pages = min(mover.num_slots, mover.num_places, 4 * num_writers, 1 + int(_FILE_S / first_s))
    spill_s = _spilled_s(mover, num_pages)
    start = time.perf_counter()
    for i in range(num_pages):
        mover.fetch(i, i)
    _await(mover, num_pages)
    fetch_s = time.perf_counter() - start
    num_bytes = num_pages * mover.page_bytes
    return {"spill": max(1, round(num_bytes / spill_s)), "fetch": max(1, round(num_bytes / fetch_s))}


def _spilled_s(mover: Measured, num_pages: int) -> float:
    start = time.perf_counter()
    for i in range(num_pages):
        mover.spill(i, i)
    _await(mover, num_pages)
    return time.perf_counter() - start


def _await(mover: Measured, num_operations: int) -> None:
    """Wait for so many copies, which are all that are under way."""
    deadline = time.monotonic() + _MOST_S
    error: OffloadError | None = None
    while num_operations:
        mover.wait(1.0)
        for moved in mover.poll():
            num_operations -= 1
            error = error or moved.error
        if num_operations and time.monotonic() > deadline:
            raise OffloadError(
                f"{num_operations} pages were not moved in {_MOST_S:.0f} s: the disk does not answer; use "
                "another folder as nvme_path"
            )
    if error is not None:
        raise _NotMovedError(str(error)) from error
