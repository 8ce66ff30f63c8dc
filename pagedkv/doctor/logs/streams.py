"""Dense lines of servers: all of a chunk at once, told apart by who wrote them."""

import re
from collections.abc import Callable
from typing import NamedTuple

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.logs.kind import nth, places

__all__ = ["Batch", "batches"]

_TIMES = re.compile(rb"\d+(?:[-:./,T]\d+)+|\x1b\[[0-9;]*m")
_PLAIN_START = re.compile(rb"\[?\d{4}-|INFO |\((?:APIServer|EngineCore)")
Fields = tuple[bytes, ...]


class Batch(NamedTuple):
    """Lines of one process, in their order.

    Attributes:
        writer: what stands before the line besides times: rank, engine, container.
        fields: of each line, the texts that its pattern captures.
        position_of: where the line with this number stands in the chunk.
    """

    writer: bytes
    fields: list[Fields]
    position_of: Callable[[int], int]


def batches(
    chunk: Chunk, start: bytes, quick: re.Pattern[bytes], careful: Callable[[bytes], Fields | None]
) -> tuple[list[Batch], int]:
    """The lines that contain `start`, by writer; and how many of them could not be understood.

    Args:
        chunk: where to look.
        start: what each such line contains once.
        quick: finds those of the usual shape; begins with `start`.
        careful: takes the line from `start` on apart whatever its shape; slower.
    """
    data = chunk.data
    num_lines = data.count(start)
    if not num_lines:
        return [], 0
    writer = _only_writer(chunk, start, num_lines)
    if writer is not None and len(fields := quick.findall(data)) == num_lines:
        return [Batch(writer, fields, lambda number: nth(places(data, start), number))], 0
    return _one_by_one(chunk, start, quick, careful)


def _one_by_one(
    chunk: Chunk, start: bytes, quick: re.Pattern[bytes], careful: Callable[[bytes], Fields | None]
) -> tuple[list[Batch], int]:
    found: dict[bytes, tuple[list[Fields], list[int]]] = {}
    num_odd = 0
    for position in places(chunk.data, start):
        match = quick.match(chunk.data, position)
        fields = match.groups(b"") if match else careful(_from(chunk.data, position))
        if fields is None:
            num_odd += 1
            continue
        rows, positions = found.setdefault(_writer(chunk.before(position)), ([], []))
        rows.append(fields)
        positions.append(position)
    return [Batch(writer, rows, spots.__getitem__) for writer, (rows, spots) in found.items()], num_odd


def _only_writer(chunk: Chunk, start: bytes, num_lines: int) -> bytes | None:
    """Who wrote all of these lines; None if it may have been several."""
    before = chunk.before(chunk.data.find(start))
    tag = before[max((time.end() for time in _TIMES.finditer(before)), default=0) :]
    if not _PLAIN_START.match(before) or chunk.data.count(tag + start) != num_lines:
        return None
    return _writer(before)


def _writer(before: bytes) -> bytes:
    return _TIMES.sub(b"", before)


def _from(data: bytes, position: int) -> bytes:
    end = data.find(b"\n", position)
    return data[position : end if end >= 0 else len(data)]
