"""Block ids as memory that Python loops and numpy vectors share."""

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from pagedkv.errors import InvalidRequest

__all__ = ["Int32s", "Int64s", "as_block_ids", "two_views"]

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def two_views(values: Int64s) -> "tuple[array[int], Int64s]":
    """One copy of `values`, seen as an `array` (fast single items) and as a numpy vector (fast bulk)."""
    items = array("q", values.tobytes())
    return items, np.frombuffer(items, np.int64)


def as_block_ids(ids: Iterable[int]) -> "array[int]":
    """`ids` as an `array('q')`, without a copy where it is one already.

    Raises:
        InvalidRequest: it is not a one-dimensional collection of ints that fit 64 bits.
    """
    if type(ids) is array and ids.typecode == "q":
        return ids
    if isinstance(ids, (bytes, bytearray)):
        raise InvalidRequest(f"block ids must be a collection of ints, got {type(ids).__name__}")
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise InvalidRequest(f"block ids must be a 1-D integer array, got {ids.ndim}-D of {ids.dtype}")
        return array("q", ids.astype(np.int64, copy=False).tobytes())
    try:
        return array("q", ids)
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidRequest(f"block ids must be a collection of ints, got {ids!r:.80}: {error}") from None
