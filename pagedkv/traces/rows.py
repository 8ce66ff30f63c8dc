"""From lines to rows: JSON objects a line, or comma-separated values under a header."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence

from pagedkv.errors import TraceFormatError
from pagedkv.traces.row import Row

__all__ = ["csv_rows", "json_rows"]

Lines = Iterable[tuple[int, str]]


def json_rows(file: str, lines: Lines) -> Iterator[Row]:
    """Yield one row for each line that is not blank.

    Raises:
        TraceFormatError: a line is not one JSON object.
    """
    for line, text in lines:
        if not text.isspace():
            yield Row(file, line, _json_object(file, line, text))


def _json_object(file: str, line: int, text: str) -> dict[str, object]:
    try:
        value = json.loads(text.rstrip())
    except json.JSONDecodeError as error:
        raise TraceFormatError(
            file, line, f"expected one JSON object a line: {error.msg}", f"column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:  # an endless number, or brackets without end
        raise TraceFormatError(file, line, f"expected one JSON object a line: {error}") from None
    if not isinstance(value, dict):
        raise TraceFormatError(file, line, f"expected one JSON object a line, found a {type(value).__name__}")
    return value


def csv_rows(file: str, header: Sequence[str], lines: Lines) -> Iterator[Row]:
    """Yield one row for each record that is not blank; all values are strings.

    Raises:
        TraceFormatError: a record has more or fewer fields than the header, or bad quotes.
    """
    last = 1

    def texts() -> Iterator[str]:
        nonlocal last
        for line, text in lines:
            last = line
            yield text

    try:
        for fields in csv.reader(texts(), strict=True):
            if len(fields) > 1 or any(map(str.strip, fields)):
                yield _record(file, last, header, fields)
    except csv.Error as error:
        raise TraceFormatError(file, last, f"expected comma-separated values: {error}") from None


def _record(file: str, line: int, header: Sequence[str], fields: Sequence[str]) -> Row:
    if len(fields) != len(header):
        column = header[len(fields)] if len(fields) < len(header) else f"field {len(header) + 1}"
        raise TraceFormatError(file, line, f"expected {len(header)} fields, found {len(fields)}", column)
    return Row(file, line, dict(zip(header, fields, strict=True)))
