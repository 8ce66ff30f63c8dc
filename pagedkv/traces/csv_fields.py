"""Numbers in the text fields of a csv row."""

import re
from decimal import Decimal

from pagedkv.traces.row import MAX_TOKENS, Row

__all__ = ["seconds_as_ms", "token_count"]

_SECONDS = re.compile(r"\d{1,12}(\.\d{1,18})?", re.ASCII)


def token_count(row: Row, column: str) -> int:
    """A number of tokens.

    Raises:
        TraceFormatError: the field is not a plain integer from 0 to 2147483647.
    """
    text = str(row.values[column]).strip()
    if text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MAX_TOKENS:
        return int(text)
    raise row.unexpected(column, f"an integer from 0 to {MAX_TOKENS}")


def seconds_as_ms(row: Row, column: str) -> int:
    """A number of seconds, rounded to whole milliseconds.

    Raises:
        TraceFormatError: the field is not a plain decimal number of at most twelve digits before the point.
    """
    text = str(row.values[column]).strip()
    if _SECONDS.fullmatch(text):
        return round(1000 * Decimal(text))
    raise row.unexpected(column, "a number of seconds from 0, such as 45.25")
