"""Azure and BurstGPT rows."""

import pytest

from pagedkv.errors import TraceFormatError
from pagedkv.traces import TraceRequest, read_trace
from pagedkv.traces.azure import AZURE_COLUMNS
from pagedkv.traces.burstgpt import BURSTGPT_COLUMNS
from tests.traces.conftest import WriteLines

START = "2023-11-16 18:17:03.9799600"


def test_azure_times_are_exact(write_csv: WriteLines) -> None:
    """Arrivals are ticks of 100 ns since the first row, rounded down to milliseconds exactly."""
    times = [START, "2023-11-16 18:17:03.9809599", "2023-11-16 18:17:03.9809600", "2023-11-17 18:17:03.97996"]
    trace = read_trace(write_csv(AZURE_COLUMNS, *((time, 5, 6) for time in times)))

    assert [r.arrival_ms for r in trace.requests] == [0, 0, 1, 86_400_000]


@pytest.mark.parametrize(
    ("time", "arrival_ms"),
    [
        ("2023-11-16 18:17:04.9799600+00:00", 1000),
        ("2023-11-16T18:17:04.9799600Z", 1000),
        ("2023-11-16 20:17:04.97996+02:00", 1000),
        ("2023-11-16 12:47:04.97996-0530", 1000),
        ("2023-11-16 18:17:05", 1020),
        (" 2023-11-16 18:17:05 UTC ", 1020),
        ("2024-02-29 00:00:00", 9_006_176_020),
    ],
)
def test_azure_zones(write_csv: WriteLines, time: str, arrival_ms: int) -> None:
    """A zone suffix is taken into account; a time without one is UTC."""
    trace = read_trace(write_csv(AZURE_COLUMNS, (START, 5, 6), (time, 5, 6)))

    assert trace.requests[1].arrival_ms == arrival_ms


def test_azure_last_line_without_newline(write_csv: WriteLines) -> None:
    """The last line counts also if no newline ends it."""
    trace = read_trace(write_csv(AZURE_COLUMNS, (START, 5, 6), (START, 7, 8), end=""))

    assert trace.requests == (TraceRequest(0, 2, 0, 5, 6), TraceRequest(1, 3, 0, 7, 8))
    assert trace.block_size is None


@pytest.mark.parametrize(
    "time",
    [
        "",
        "yesterday",
        "2023-02-30 00:00:00",
        "2023-11-16 24:00:00",
        "2023-11-16 18:60:00",
        "2023-11-16 18:17:03.97996001",
        "2023-11-16 18:17:03.",
        "2023-11-16 18:17:03 CET",
        "2023-11-16",
        "0000-11-16 18:17:03",
        "1700158623",
    ],
)
def test_azure_bad_times_are_named(write_csv: WriteLines, time: str) -> None:
    """What is no time names the line and shows what one looks like."""
    with pytest.raises(TraceFormatError, match=r":2: TIMESTAMP: expected a time such as 2023-11-16 "):
        read_trace(write_csv(AZURE_COLUMNS, (time, 5, 6)))


def test_azure_time_before_the_first(write_csv: WriteLines) -> None:
    """Times may go back, but not behind the first row."""
    later, earlier = (f"2023-11-16 18:17:{second}" for second in ("05", "03"))

    assert (
        read_trace(write_csv(AZURE_COLUMNS, (START, 5, 6), (later, 5, 6), (START, 5, 6)))
        .requests[2]
        .arrival_ms
        == 0
    )
    with pytest.raises(TraceFormatError, match=r":3: TIMESTAMP: expected a time not before the first row's"):
        read_trace(write_csv(AZURE_COLUMNS, (START, 5, 6), (earlier, 5, 6)))


@pytest.mark.parametrize(
    "count", ["", "5.0", "-5", "+5", "five", "1e3", "2147483648", "9" * 5000, "٣", "5_0"]
)
def test_counts_are_plain_integers(write_csv: WriteLines, count: str) -> None:
    """A number of tokens is digits, and not more than 2147483647."""
    with pytest.raises(
        TraceFormatError, match=r":2: ContextTokens: expected an integer from 0 to 2147483647"
    ):
        read_trace(write_csv(AZURE_COLUMNS, (START, count, 6)))


def test_burstgpt_failed_requests_are_left_out(write_csv: WriteLines) -> None:
    """Rows with zero response tokens are counted, and are no requests."""
    rows = [
        (5, "ChatGPT", 472, 18, 490, "Conversation log"),
        (45, "ChatGPT", 1087, 0, 1087, "API log"),
        (118.2345, "GPT-4", 417, 276, 693, "API log"),
    ]
    trace = read_trace(write_csv(BURSTGPT_COLUMNS, *rows))

    assert trace.requests == (TraceRequest(0, 2, 5000, 472, 18), TraceRequest(1, 4, 118_234, 417, 276))
    assert (trace.num_failed, trace.block_size) == (1, None)


def test_burstgpt_with_sessions(write_csv: WriteLines) -> None:
    """Later releases have two more columns, which change nothing."""
    header = [*BURSTGPT_COLUMNS, "Session ID", "Elapsed time"]
    trace = read_trace(write_csv(header, (5, "GPT-4", 2, 3, 5, "API log", "", 0.5)))

    assert trace.requests == (TraceRequest(0, 2, 5000, 2, 3),)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((5, "GPT-4", 2, 3, 6, ""), r"Total tokens: expected 2 \+ 3, found '6'"),
        (("-5", "GPT-4", 2, 3, 5, ""), "Timestamp: expected a number of seconds from 0.*found '-5'"),
        (("nan", "GPT-4", 2, 3, 5, ""), "Timestamp: expected a number of seconds from 0.*found 'nan'"),
        (("1e9", "GPT-4", 2, 3, 5, ""), "Timestamp: expected a number of seconds from 0.*found '1e9'"),
        ((5, "GPT-4", "", 3, 5, ""), "Request tokens: expected an integer"),
        ((5, "GPT-4", 2, "x", 5, ""), "Response tokens: expected an integer"),
    ],
)
def test_burstgpt_wrong_values_are_named(
    write_csv: WriteLines, row: tuple[object, ...], message: str
) -> None:
    """A value that is wrong, or that does not add up, names line and column."""
    with pytest.raises(TraceFormatError, match=rf":2: {message}"):
        read_trace(write_csv(BURSTGPT_COLUMNS, row))
