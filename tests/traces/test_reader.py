"""Which format a file has, and what happens to files that have none."""

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.traces import read_trace
from tests.traces.conftest import WriteLines

MOONCAKE = {"timestamp": 27, "input_length": 700, "output_length": 5, "hash_ids": [1, 2]}
QWEN = {"chat_id": 3, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 17, "output_length": 1}
WEKA = {"id": "a", "requests": [{"t": 0.5, "in": 5, "out": 1, "hash_ids": []}]}
TOKENS = {"input_tok_ids": [1, 2], "output_toks": 1}
PROMPT = {"prompt": "hello"}
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10"
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,API log"
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (MOONCAKE, "mooncake"),
        (QWEN, "qwen"),
        (WEKA, "weka"),
        (TOKENS, "tokens"),
        (PROMPT, "prompts"),
        (AZURE, "azure"),
        (BURSTGPT, "burstgpt"),
    ],
)
@pytest.mark.parametrize("name", ["trace.jsonl", "trace.csv", "trace"])
def test_format_is_told_from_the_content(
    write_lines: WriteLines, content: object, expected: str, name: str
) -> None:
    """The columns say which format it is, whatever the file is called."""
    path = write_lines(content, name=name)

    trace = read_trace(path, tokenizer=lambda text: list(text.encode()))

    assert (trace.format, trace.name, len(trace.requests)) == (expected, str(path), 1)


@pytest.mark.parametrize("content", [MOONCAKE, AZURE])
def test_gzip_is_told_from_the_content(write_lines: WriteLines, content: object) -> None:
    """A gzip file is read whatever it is called, also one of several members."""
    path = write_lines(content)
    plain = read_trace(path)
    data = path.read_bytes()
    path.write_bytes(gzip.compress(data[:10]) + gzip.compress(data[10:]))

    assert read_trace(path) == plain


@pytest.mark.parametrize("content", [MOONCAKE, AZURE])
def test_windows_files_are_read(write_lines: WriteLines, content: object) -> None:
    """A byte order mark, carriage returns and blank lines change nothing but line numbers."""
    path = write_lines(content)
    plain = read_trace(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n  \r\n")

    assert read_trace(path) == plain


def test_blank_lines_count(write_lines: WriteLines) -> None:
    """Blank lines are skipped, and line numbers still are those of the file."""
    trace = read_trace(write_lines("", MOONCAKE, "", MOONCAKE))

    assert [(request.index, request.line) for request in trace.requests] == [(0, 2), (1, 4)]


def test_further_columns_are_ignored(write_lines: WriteLines) -> None:
    """Columns and keys that a format does not know do no harm, in any order."""
    header = "ContextTokens,Region,GeneratedTokens,TIMESTAMP"
    path = write_lines(header, '4808,"west, 2",10,2023-11-16 18:17:03.9799600')

    assert read_trace(path).requests == read_trace(write_lines(AZURE)).requests
    assert read_trace(write_lines(MOONCAKE | {"model": "x"})).requests[0].num_prompt_tokens == 700


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a trace, found an empty file"),
        ("\n  \n", "expected a trace, found an empty file"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", r"expected requests, found none \(azure format\)"),
        ('{"requests": []}\n', "expected requests, found none"),
        ('{"a": 1}\n', r":1: expected keys of a known format .*found 'a'"),
        ("{}\n", ":1: expected keys of a known format .*found no keys"),
        ("a,b,c\n", ":1: TIMESTAMP: expected JSON objects, or a csv header with .*found 'a', 'b', 'c'"),
        ("TIMESTAMP,ContextTokens\n", ":1: GeneratedTokens: expected"),
        ("Timestamp,Model,Request tokens\n", ":1: Response tokens: expected"),
        ("a,a\n", ":1: expected distinct columns, found a, a"),
        ('"a\n', ":1: expected a csv header or JSON"),
        ('[{"input_length": 3}]\n', ":1: expected one JSON object a line, found a JSON array"),
        ('{"input_length": 3\n', ":1: column 19: expected one JSON object a line"),
        ('{"input_length": 3}\n5\n', ":1: output_length: .* is missing"),
        ('{"input_length": 3, "output_length": 1}\n[5]\n', ":2: .*found a list"),
        ('{"input_length": 3, "output_length": 1}\n{"inp', ":2: column 2: expected one JSON object a line"),
        ('{"input_length": 3, "output_length": 1} {}\n', ":1: column 41: .*Extra data"),
        ('{"input_length": ' + "9" * 5000 + "}\n", ":1: expected one JSON object a line"),
        ('{"input_length": ' + "[" * 100_000 + "\n", ":1: expected one JSON object a line"),
        (
            '{"input_length": Infinity}',
            ":1: input_length: expected an integer from 0 to 2147483647, found inf",
        ),
        (AZURE + "\n2023-11-16 18:17:03.98,1", ":3: GeneratedTokens: expected 3 fields, found 2"),
        (AZURE + ",7\n", ":2: field 4: expected 3 fields, found 4"),
        (AZURE + '\n"2023', ":3: expected comma-separated values"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: str, message: str) -> None:
    """Whatever is wrong with the text, one line says where it is and what was expected."""
    path = tmp_path / "broken"
    path.write_text(content)

    with pytest.raises(TraceFormatError, match=message) as caught:
        read_trace(path)

    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x01\x02", ":1: byte 1: expected text, found a zero byte: a binary file"),
        (b"\x7fELF\xff\xfe", ":1: byte 5: expected UTF-8 text, found byte 0xff"),
        (b"PK\x03\x04rest", "found zip data; unpack it first"),
        (b"\x28\xb5\x2f\xfdrest", "found zstd data; unpack it first"),
        (b"\x1f\x8b", ":1: expected intact gzip data"),
        (b"\x1f\x8b\x09\x00garbage", ":1: expected intact gzip data"),
    ],
)
def test_binary_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no text is told apart from text that is no trace."""
    path = tmp_path / "binary"
    path.write_bytes(content)

    with pytest.raises(TraceFormatError, match=message):
        read_trace(path)


def test_cut_gzip_is_named(write_lines: WriteLines) -> None:
    """A gzip file that was cut off names the line up to which it could be read."""
    path = write_lines(*[MOONCAKE | {"timestamp": i**3 % 999_983} for i in range(3000)])
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])

    with pytest.raises(TraceFormatError, match="expected intact gzip data") as caught:
        read_trace(path)

    assert 1 < caught.value.line < 3000


def test_damaged_gzip_is_named(write_lines: WriteLines) -> None:
    """A gzip file with a wrong check sum, or with something behind it, is not taken as it is."""
    path = write_lines(MOONCAKE)
    packed = gzip.compress(path.read_bytes())

    for data in (packed[:-8] + bytes(8), packed + b"garbage", packed[:20] + b"\xff\xff\xff" + packed[23:]):
        path.write_bytes(data)
        with pytest.raises(TraceFormatError, match="expected intact gzip data"):
            read_trace(path)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A folder and a missing file are refused by name."""
    with pytest.raises(TraceFormatError, match="cannot be read: Is a directory"):
        read_trace(tmp_path)
    with pytest.raises(TraceFormatError, match="missing: cannot be read: No such file"):
        read_trace(tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_read(write_lines: WriteLines) -> None:
    """A trace needs to be read only once and from start to end, so a pipe will do."""
    plain = write_lines(MOONCAKE, MOONCAKE)
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(plain.read_bytes()))
    os.close(writing)
    try:
        assert read_trace(f"/dev/fd/{reading}") == read_trace(plain)
    finally:
        os.close(reading)


@pytest.mark.parametrize("block_size", [0, -1, True, 16.0, "16", 2**31])
def test_refuses_impossible_block_sizes(write_lines: WriteLines, block_size: int) -> None:
    """A block size that is no positive int is a configuration error."""
    with pytest.raises(ConfigError, match="block_size"):
        read_trace(write_lines(MOONCAKE), block_size=block_size)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_gets_past_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    """A file with bytes changed, cut or put in either reads or raises `TraceFormatError`."""
    lines = [MOONCAKE, QWEN, WEKA, TOKENS, AZURE, BURSTGPT]
    content = bytearray((str(data.draw(st.sampled_from(lines))).replace("'", '"') + "\n").encode() * 2)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    packed = data.draw(st.booleans())
    path = tmp_path / "fuzzed"
    path.write_bytes(gzip.compress(content) if packed else content)

    try:
        trace = read_trace(path)
    except TraceFormatError as error:
        assert "\n" not in str(error)
    else:
        assert trace.requests
