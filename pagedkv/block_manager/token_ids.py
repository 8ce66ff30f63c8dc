"""Token ids as int32 vectors, converted at the cost of one pass in C."""

import struct
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt

from pagedkv.block_ids import Int32s
from pagedkv.errors import InvalidRequest

__all__ = ["TokenIds", "as_token_ids", "require_block_ids", "require_namespace"]

TokenIds = Sequence[int] | npt.NDArray[np.integer]

_DTYPE = np.dtype(np.int32)
_INT32 = np.iinfo(np.int32)


def as_token_ids(token_ids: TokenIds) -> Int32s:
    """`token_ids` as a contiguous int32 vector; little-endian on the machines that this runs on.

    Raises:
        InvalidRequest: it is not a one-dimensional sequence of ints, or one of them does not fit int32.
    """
    if isinstance(token_ids, np.ndarray):
        return _from_ndarray(token_ids)
    if not isinstance(token_ids, Sequence) or isinstance(token_ids, (str, bytes, bytearray)):
        raise InvalidRequest(_complaint(token_ids))
    try:
        return np.frombuffer(_packer(len(token_ids)).pack(*token_ids), np.int32)
    except (TypeError, struct.error):
        raise InvalidRequest(_complaint(token_ids)) from None


def require_namespace(namespace: str) -> None:
    """Check that a namespace is a string.

    Raises:
        InvalidRequest: it is none.
    """
    if not isinstance(namespace, str):
        raise InvalidRequest(f"namespace is {namespace!r:.80}; it must be a str")


def require_block_ids(block_ids: Sequence[Hashable]) -> None:
    """Check that ids of blocks are a sequence of distinct, hashable ids, none of them None.

    Raises:
        InvalidRequest: they are not.
    """
    try:
        distinct = set(block_ids)
        length = len(block_ids)
    except TypeError:
        raise InvalidRequest(f"block ids must be a sequence of hashable ids, got {block_ids!r:.80}") from None
    if None in distinct or len(distinct) < length:
        raise InvalidRequest("block ids stand for prefixes, so they must be distinct, and none of them None")


@lru_cache(maxsize=512)
def _packer(n: int) -> struct.Struct:
    return struct.Struct(f"={n}i")


def _from_ndarray(tokens: npt.NDArray[np.generic]) -> Int32s:
    if tokens.dtype == _DTYPE and tokens.ndim == 1 and tokens.flags.c_contiguous:
        return cast("Int32s", tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InvalidRequest(f"token ids must be a 1-D integer array, got {tokens.ndim}-D of {tokens.dtype}")
    if tokens.dtype != np.int32 and len(tokens):
        low, high = tokens.min(), tokens.max()
        if low < _INT32.min or high > _INT32.max:
            raise InvalidRequest(f"token ids must fit int32, but these reach from {low} to {high}")
    return np.ascontiguousarray(tokens, dtype=np.int32)


def _complaint(token_ids: object) -> str:
    """Why these are no token ids, naming the first that is wrong."""
    if not isinstance(token_ids, Sequence) or isinstance(token_ids, (str, bytes, bytearray)):
        return f"token ids must be a sequence of ints or a 1-D integer array, got {type(token_ids).__name__}"
    for position, token in enumerate(cast("Sequence[object]", token_ids)):
        try:
            struct.pack("=i", token)
        except struct.error:
            return f"token {token!r:.40} at position {position} is not an int that fits int32"
    return "the token ids changed while they were read"
