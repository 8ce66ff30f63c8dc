"""Bytes of a log cut at the ends of lines, and where in the file each of them stands."""

import re
from collections.abc import Iterable, Iterator

from pagedkv.pitfalls.finding import Source

__all__ = ["LONGEST_LINE", "Chunk", "ChunkCutter"]

LONGEST_LINE = 1 << 16
"""Bytes of a line that are looked at."""
_SHOWN = 200
_COLOUR = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Chunk:
    """Whole lines of a file.

    Args:
        file: name of the file.
        data: the lines.
        first_line: number of the first one.
    """

    __slots__ = ("_at", "_line", "data", "file", "first_line")

    def __init__(self, file: str, data: bytes, first_line: int) -> None:
        self.file, self.data, self.first_line = file, data, first_line
        self._at, self._line = 0, first_line

    def line_at(self, position: int) -> bytes:
        """The line that has this byte, without its end and without colours."""
        start = self.data.rfind(b"\n", 0, position) + 1
        end = self.data.find(b"\n", position)
        line = self.data[start : end if end >= 0 else len(self.data)]
        return _COLOUR.sub(b"", line) if b"\x1b" in line else line

    def before(self, position: int) -> bytes:
        """What stands in the line before this byte."""
        return self.data[self.data.rfind(b"\n", 0, position) + 1 : position]

    def source_at(self, position: int) -> Source:
        """The line that has this byte, as a place in a file."""
        if position < self._at:
            self._at, self._line = 0, self.first_line
        self._line += self.data.count(b"\n", self._at, position)
        self._at = position
        return Source(self.file, self._line, shown(self.line_at(position)))


def shown(line: bytes) -> str:
    """The beginning of a line, as text."""
    text = line.decode("utf-8", "replace").strip()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"


class ChunkCutter:
    """Cuts the blocks of a file into chunks; memory is bounded however long a line is.

    Attributes:
        num_lines: lines so far.
        num_long: those of them of which only the beginning was looked at.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self.num_lines = 0
        self.num_long = 0
        self._rest = b""
        self._skipping = False

    def chunks(self, blocks: Iterable[bytes]) -> Iterator[Chunk]:
        """The chunks of these blocks."""
        for block in blocks:
            if (data := self._whole_lines(block)) is not None:
                yield self._chunk(data)
        if self._rest:
            data, self._rest = self._rest, b""
            yield self._chunk(data)
            self.num_lines += 1

    def _chunk(self, data: bytes) -> Chunk:
        chunk = Chunk(self._file, data, self.num_lines + 1)
        self.num_lines += data.count(b"\n")
        return chunk

    def _whole_lines(self, block: bytes) -> bytes | None:
        """Lines that end in this block; the beginning of the last is kept for the next one."""
        if self._skipping:
            end = block.find(b"\n")
            if end < 0:
                return None
            block, self._skipping = block[end:], False
        end = block.rfind(b"\n") + 1
        if end:
            data, self._rest = self._rest + block[:end], block[end:]
        else:
            data, self._rest = b"", self._rest + block
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._skipping = self._rest[:LONGEST_LINE], True
            self.num_long += 1
        return data or None
