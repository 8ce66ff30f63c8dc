"""A file as it was given: its first bytes to tell what it is, and then all of it, once, piece by piece."""

import codecs
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

__all__ = ["BLOCK_BYTES", "GivenFile", "Unreadable", "open_given"]

BLOCK_BYTES = 1 << 19
HEAD_BYTES = 1 << 20
STDIN = "-"
_GZIP = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
Progress = Callable[[int, int], None]


class Unreadable(Exception):
    """A file of which nothing can be said; the message is why."""


class GivenFile:
    """A file or stdin, unpacked if it is gzipped, in UTF-8 if it was in UTF-16.

    Args:
        name: as it was given.
        raw: what to read.
        path: where it lies; None for stdin.
        progress: called with bytes read and bytes that there are.

    Attributes:
        head: the first bytes, at most 1 MiB.
        num_bytes: bytes given out by `blocks` so far.
        cut_off: why it ended early, or "".
    """

    def __init__(self, name: str, raw: BinaryIO, path: Path | None, progress: Progress | None) -> None:
        self.name, self.path = name, path
        self.num_bytes = 0
        self.cut_off = ""
        self._raw, self._progress = raw, progress
        self._size = path.stat().st_size if path is not None else 0
        start = _exactly(raw, 4)
        self.is_gzip = start.startswith(_GZIP)
        self._pieces = self._unpacked(start) if self.is_gzip else self._plain(start)
        if self.is_gzip:
            start = b""
        self.head = self._fill_head()

    def blocks(self) -> Iterator[bytes]:
        """Everything, in pieces of half a MiB; can be asked for once."""
        for piece in self._all():
            self.num_bytes += len(piece)
            yield piece

    def close(self) -> None:
        """Give the file back."""
        if self.path is not None:
            self._raw.close()

    def _all(self) -> Iterator[bytes]:
        if not self.head.startswith(_UTF16):
            yield self.head
            yield from self._pieces
            return
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        yield decoder.decode(self.head).encode("utf-8", "replace")
        for piece in self._pieces:
            yield decoder.decode(piece).encode("utf-8", "replace")
        yield decoder.decode(b"", final=True).encode("utf-8", "replace")

    def _fill_head(self) -> bytes:
        head = b""
        while len(head) < HEAD_BYTES:
            piece = next(self._pieces, b"")
            if not piece:
                break
            head += piece
        return head

    def _plain(self, start: bytes) -> Iterator[bytes]:
        num_read = len(start)
        yield start
        while piece := self._read():
            num_read += len(piece)
            self._tell(num_read)
            yield piece

    def _read(self) -> bytes:
        try:
            return self._raw.read(BLOCK_BYTES)
        except OSError as error:
            self.cut_off = f"reading stopped: {error.strerror or error}"
            return b""

    def _unpacked(self, start: bytes) -> Iterator[bytes]:
        """What the gzip members hold; whatever follows an unreadable one is lost."""
        stream = gzip.GzipFile(mode="rb", fileobj=cast("BinaryIO", _Rejoined(start, self._raw)))
        while True:
            try:
                piece = stream.read(BLOCK_BYTES)
            except (EOFError, OSError, zlib.error) as error:
                self.cut_off = f"the gzip data ends early or is damaged: {error}"
                return
            if not piece:
                return
            if self.path is not None:
                self._tell(self._raw.tell())
            yield piece

    def _tell(self, num_read: int) -> None:
        if self._progress is not None and self._size:
            self._progress(min(num_read, self._size), self._size)


class _Rejoined:
    """A stream with the bytes in front that were read from it before."""

    def __init__(self, start: bytes, raw: BinaryIO) -> None:
        self._start, self._raw = start, raw

    def read(self, size: int = -1) -> bytes:
        if self._start:
            size = len(self._start) if size < 0 else size
            start, self._start = self._start[:size], self._start[size:]
            return start
        return self._raw.read(size)


def open_given(name: str, progress: Progress | None = None) -> GivenFile:
    """Open a file by its name, or stdin by "-".

    Raises:
        Unreadable: it is not there, no file, not ours to read, or empty.
    """
    given = _opened(name, progress)
    if not given.head:
        reason = given.cut_off or "it is empty"
        given.close()
        raise Unreadable(reason)
    return given


def _opened(name: str, progress: Progress | None) -> GivenFile:
    try:
        if name == STDIN:
            return GivenFile("stdin", sys.stdin.buffer, None, progress)
        path = Path(name)
        if path.is_dir():
            raise Unreadable("it is a folder; name the files in it")
        return GivenFile(name, path.open("rb"), path, progress)
    except FileNotFoundError:
        raise Unreadable("there is no such file") from None
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a name with a NUL
        raise Unreadable(f"it cannot be read: {error}") from None


def _exactly(raw: BinaryIO, size: int) -> bytes:
    """So many bytes, or fewer at the end; a pipe may give them one by one."""
    found = b""
    while len(found) < size and (more := raw.read(size - len(found))):
        found += more
    return found
