"""Mooncake and Qwen-Bailian rows."""

from array import array

import pytest

from pagedkv.errors import TraceFormatError
from pagedkv.traces import TraceRequest, read_trace
from tests.traces.conftest import WriteLines

ROW = {"timestamp": 27, "input_length": 700, "output_length": 5, "hash_ids": [46, 47]}
CHAT = {"chat_id": 159, "parent_chat_id": -1, "type": "text", "turn": 1, "timestamp": 61.1146}
CHAT |= {"input_length": 33, "output_length": 132, "hash_ids": [1, 2, 3]}


def test_mooncake_row(write_lines: WriteLines) -> None:
    """A row is read as it stands, its ids for blocks of 512 tokens."""
    trace = read_trace(write_lines(ROW))

    assert trace.block_size == 512
    assert trace.requests == (TraceRequest(0, 1, 27, 700, 5, array("q", [46, 47])),)


def test_equal_timestamps_keep_the_file_order(write_lines: WriteLines) -> None:
    """Requests stay in file order whatever their timestamps."""
    trace = read_trace(
        write_lines(*(ROW | {"timestamp": t, "output_length": i} for i, t in enumerate([5, 5, 0])))
    )

    assert [(r.arrival_ms, r.num_output_tokens) for r in trace.requests] == [(5, 0), (5, 1), (0, 2)]


def test_rows_without_ids_or_timestamp(write_lines: WriteLines) -> None:
    """Missing and null ids and timestamps are accepted, and not made up."""
    bare = {"input_length": 700, "output_length": 5}
    trace = read_trace(write_lines(ROW, bare, bare | {"hash_ids": None, "timestamp": None}))

    assert trace.block_size == 512
    assert [(r.arrival_ms, r.block_ids) for r in trace.requests[1:]] == [(None, None), (None, None)]
    assert read_trace(write_lines(bare)).block_size is None


def test_block_size_is_chosen(write_lines: WriteLines) -> None:
    """The block size of the ids can be given, and can stand in the rows."""
    row = ROW | {"input_length": 32}

    assert read_trace(write_lines(row), block_size=16).block_size == 16
    assert read_trace(write_lines(row | {"block_size": 16})).block_size == 16
    assert read_trace(write_lines(row | {"block_size": 16}, row)).block_size == 16


def test_block_sizes_that_differ(write_lines: WriteLines) -> None:
    """Rows of different block sizes, or not of the one that was asked for, are an error."""
    row = ROW | {"input_length": 32, "block_size": 16}

    with pytest.raises(TraceFormatError, match=r":2: block_size: expected 16, .*found 32"):
        read_trace(write_lines(row, row | {"block_size": 32}))
    with pytest.raises(TraceFormatError, match=r":1: block_size: expected 512, as --block-size"):
        read_trace(write_lines(row), block_size=512)


@pytest.mark.parametrize(("tokens", "ids", "size"), [(1024, [1], None), (700, [1, 2], 16), (0, [1], None)])
def test_number_of_ids_has_to_fit(
    write_lines: WriteLines, tokens: int, ids: list[int], size: int | None
) -> None:
    """Too many or too few ids name the row, the numbers, and the option that may be wrong."""
    path = write_lines(ROW | {"input_length": tokens, "hash_ids": ids})
    expected = f":1: hash_ids: expected {-(-tokens // (size or 512))} ids for input_length {tokens} "

    with pytest.raises(TraceFormatError, match=rf"{expected}.*found {len(ids)}; .*--block-size"):
        read_trace(path, block_size=size)


def test_ids_can_be_left_alone(write_lines: WriteLines) -> None:
    """Without block ids only lengths and times are read, and the number of ids does not matter."""
    trace = read_trace(write_lines(ROW | {"hash_ids": [1, 2, 3, 4]}), block_size=16, block_ids=False)

    assert (trace.block_size, trace.requests[0].block_ids) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_length": True}, "input_length: expected an integer from 0 to 2147483647, found true"),
        ({"input_length": 700.0}, "input_length: expected an integer .*, found 700.0"),
        ({"input_length": "700"}, "input_length: expected an integer .*, found '700'"),
        ({"input_length": -1}, "input_length: .*found -1"),
        ({"input_length": None}, "input_length: .*found null"),
        ({"input_length": 2**31}, "input_length: .*found 2147483648"),
        ({"output_length": [5]}, "output_length: .*found a list"),
        ({"output_length": "x" * 100}, r"output_length: .*found 'x{44}\.\.\."),
        ({"output_length": {"a": 1}}, "output_length: .*found an object"),
        ({"timestamp": -1}, "timestamp: expected an integer from 0 to 9223372036854775807, found -1"),
        ({"timestamp": 1.5}, "timestamp: .*found 1.5"),
        ({"timestamp": True}, "timestamp: .*found true"),
        ({"timestamp": 10**30}, "timestamp: .*found 1000000"),
        ({"hash_ids": "12"}, "hash_ids: expected a list of integers, found '12'"),
        ({"hash_ids": [1, True]}, r"hash_ids\[1\]: expected an integer .*, found true"),
        ({"hash_ids": [1.0, 2]}, r"hash_ids\[0\]: .*found 1.0"),
        ({"hash_ids": [1, -2]}, r"hash_ids\[1\]: .*found -2"),
        ({"hash_ids": [1, 2**63]}, r"hash_ids\[1\]: .*found 9223372036854775808"),
        ({"hash_ids": [[1], [2]]}, r"hash_ids\[0\]: .*found a list"),
        ({"hash_ids": [7, 7]}, r"hash_ids\[1\]: expected ids of prefixes, all different, found 7 again"),
        ({"session_id": 1.5}, "session_id: expected an integer or a string, found 1.5"),
        ({"n": 0}, "n: expected an integer from 1 "),
    ],
)
def test_wrong_values_are_named(write_lines: WriteLines, change: dict[str, object], message: str) -> None:
    """A value of the wrong type or range names file, line, column, and what was expected and found."""
    with pytest.raises(TraceFormatError, match=rf":2: {message}"):
        read_trace(write_lines(ROW, ROW | change))


@pytest.mark.parametrize("column", ["input_length", "output_length"])
def test_missing_lengths_are_named(write_lines: WriteLines, column: str) -> None:
    """A row without a length is an error, whichever row it is."""
    row = {name: value for name, value in ROW.items() if name != column}

    with pytest.raises(
        TraceFormatError, match=rf":2: {column}: expected an integer .* the column is missing"
    ):
        read_trace(write_lines(ROW, row))


def test_qwen_row(write_lines: WriteLines) -> None:
    """Seconds become milliseconds, and blocks have 16 tokens."""
    trace = read_trace(write_lines(CHAT))

    assert (trace.format, trace.block_size) == ("qwen", 16)
    assert trace.requests == (TraceRequest(0, 1, 61115, 33, 132, array("q", [1, 2, 3]), session_id=159),)


def test_qwen_turns_belong_to_the_first_chat(write_lines: WriteLines) -> None:
    """A chat belongs to the conversation of its parent, if the file has that one."""
    parents = {1: -1, 2: 1, 3: -1, 4: 2, 5: 99}
    chats = [CHAT | {"chat_id": chat, "parent_chat_id": parent} for chat, parent in parents.items()]

    assert [r.session_id for r in read_trace(write_lines(*chats)).requests] == [1, 1, 3, 1, 5]


@pytest.mark.parametrize(
    ("value", "found"),
    [(-0.5, "-0.5"), (True, "true"), ("61", "'61'"), (1e13, "1e.13"), (float("nan"), "nan")],
)
def test_qwen_timestamps_are_checked(write_lines: WriteLines, value: object, found: str) -> None:
    """A timestamp has to be a number of seconds that a trace can have."""
    message = f":1: timestamp: expected a number of seconds from 0, found {found}"

    with pytest.raises(TraceFormatError, match=message.replace("1e.13", "10000000000000.0")):
        read_trace(write_lines(CHAT | {"timestamp": value}))
