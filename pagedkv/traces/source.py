"""Lines of a trace file, plain or gzip."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pagedkv.errors import TraceFormatError

__all__ = ["read_lines"]

_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_MAGICS = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_BYTE_ORDER_MARK = "\ufeff"


def read_lines(file: str) -> Iterator[tuple[int, str]]:
    """Yield `(line number from 1, text)`; gzip is recognised by its first bytes, not by the name.

    Raises:
        TraceFormatError: the file cannot be opened, is damaged or cut off, or is not UTF-8 text.
    """
    line = 0
    try:
        with Path(file).open("rb") as raw:
            for line, data in enumerate(_unpacked(file, raw), 1):
                yield line, _decode(file, line, data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceFormatError(file, line + 1, f"expected intact gzip data: {error}") from None
    except OSError as error:
        raise TraceFormatError(file, 0, f"cannot be read: {error.strerror or error}") from None


def _unpacked(file: str, raw: io.BufferedReader) -> BinaryIO:
    start = raw.peek(8)
    if start.startswith(_GZIP_MAGIC):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    for magic, name in _OTHER_MAGICS.items():
        if start.startswith(magic):
            raise TraceFormatError(file, 0, f"expected text or gzip, found {name} data; unpack it first")
    return raw


def _decode(file: str, line: int, data: bytes) -> str:
    if b"\0" in data:
        place = f"byte {data.index(0) + 1}"
        raise TraceFormatError(file, line, "expected text, found a zero byte: a binary file", place)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        found = f"expected UTF-8 text, found byte 0x{data[error.start]:02x}"
        raise TraceFormatError(file, line, found, f"byte {error.start + 1}") from None
    return text.removeprefix(_BYTE_ORDER_MARK) if line == 1 else text
