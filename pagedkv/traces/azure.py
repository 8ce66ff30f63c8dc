"""Azure LLM inference traces (2023 and 2024): csv with TIMESTAMP, ContextTokens, GeneratedTokens.

Source: Azure/AzurePublicDataset (CC-BY-4.0).
"""

import re
from collections.abc import Iterable
from datetime import date

from pagedkv.traces.csv_fields import token_count
from pagedkv.traces.options import ReadOptions
from pagedkv.traces.row import Row
from pagedkv.traces.trace import Trace, TraceRequest

__all__ = ["AZURE_COLUMNS", "read_azure"]

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

_TIMESTAMP = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})[ T](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d)"
    r"(?:\.(?P<fraction>\d{1,7}))?"
    r"\s*(?P<zone>Z|UTC|(?P<sign>[+-])(?P<zone_hour>[01]\d):?(?P<zone_minute>[0-5]\d))?",
    re.ASCII,
)
_FORM = "a time such as 2023-11-16 18:17:03.9799600, with at most 7 decimals"
_TICKS_PER_SECOND = 10**7
_TICKS_PER_MS = 10**4


def read_azure(rows: Iterable[Row], options: ReadOptions) -> Trace:  # noqa: ARG001 - the readers' signature
    """Read an Azure trace; arrivals count from the first row, rounded down to whole milliseconds.

    Raises:
        TraceFormatError: a row is malformed, or earlier than the first one.
    """
    first: int | None = None
    requests = []
    for index, row in enumerate(rows):
        ticks = _ticks(row)
        first = ticks if first is None else first
        if ticks < first:
            raise row.unexpected("TIMESTAMP", "a time not before the first row's")
        prompt, output = token_count(row, "ContextTokens"), token_count(row, "GeneratedTokens")
        requests.append(TraceRequest(index, row.line, (ticks - first) // _TICKS_PER_MS, prompt, output))
    return Trace("", "azure", None, tuple(requests))


def _ticks(row: Row) -> int:
    """The row's time in ticks of 100 ns, as an exact integer."""
    match = _TIMESTAMP.fullmatch(str(row.values["TIMESTAMP"]).strip())
    if match is None:
        raise row.unexpected("TIMESTAMP", _FORM)
    try:
        days = date.fromisoformat(match["day"]).toordinal()
    except ValueError:
        raise row.unexpected("TIMESTAMP", _FORM) from None
    minutes = (24 * days + int(match["hour"])) * 60 + int(match["minute"]) - _zone_minutes(match)
    fraction = (match["fraction"] or "").ljust(7, "0")
    return (60 * minutes + int(match["second"])) * _TICKS_PER_SECOND + int(fraction)


def _zone_minutes(match: re.Match[str]) -> int:
    if match["sign"] is None:
        return 0
    minutes = 60 * int(match["zone_hour"]) + int(match["zone_minute"])
    return minutes if match["sign"] == "+" else -minutes
