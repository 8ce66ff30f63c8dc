"""BurstGPT: csv with Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type.

A row with zero response tokens is a request that failed. Such rows are checked, counted in
`Trace.num_failed` and left out, as in the authors' own `BurstGPT_without_fails_*.csv` and in vLLM's loader:
a service that answered nothing says nothing about how long its blocks were held.

Source: HPMLL/BurstGPT (KDD'25).
"""

from collections.abc import Iterable

from pagedkv.traces.csv_fields import seconds_as_ms, token_count
from pagedkv.traces.options import ReadOptions
from pagedkv.traces.row import Row
from pagedkv.traces.trace import Trace, TraceRequest

__all__ = ["BURSTGPT_COLUMNS", "read_burstgpt"]

BURSTGPT_COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")


def read_burstgpt(rows: Iterable[Row], options: ReadOptions) -> Trace:  # noqa: ARG001 - the readers' signature
    """Read a BurstGPT trace, without the requests that failed.

    Raises:
        TraceFormatError: a row is malformed, or its total is not the sum of its parts.
    """
    requests: list[TraceRequest] = []
    num_failed = 0
    for row in rows:
        arrival, prompt, output = _checked(row)
        if output == 0:
            num_failed += 1
        else:
            requests.append(TraceRequest(len(requests), row.line, arrival, prompt, output))
    return Trace("", "burstgpt", None, tuple(requests), num_failed)


def _checked(row: Row) -> tuple[int, int, int]:
    prompt, output = token_count(row, "Request tokens"), token_count(row, "Response tokens")
    if token_count(row, "Total tokens") != prompt + output:
        raise row.unexpected("Total tokens", f"{prompt} + {output}")
    return seconds_as_ms(row, "Timestamp"), prompt, output
