"""Rows of token ids, and of text."""

import sys
from array import array
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.errors import ConfigError, TraceFormatError
from pagedkv.traces import TraceRequest, read_trace
from pagedkv.traces.tokens import PrefixIds
from tests.traces.conftest import WriteLines

ROW = {"input_toks": 3, "output_toks": 4, "arrival_time_ns": 4_059_740, "input_tok_ids": [5, 6, 7]}


def letters(text: str) -> list[int]:
    """A tokenizer: one token a byte."""
    return list(text.encode())


def test_token_row(write_lines: WriteLines) -> None:
    """Tokens are kept, ids are derived from them, nanoseconds become milliseconds."""
    trace = read_trace(write_lines(ROW), block_size=2)

    assert (trace.format, trace.block_size) == ("tokens", 2)
    assert trace.requests == (TraceRequest(0, 1, 4, 3, 4, array("q", [0, 1]), array("i", [5, 6, 7])),)


@given(st.lists(st.lists(st.integers(0, 2), max_size=7), max_size=8), st.integers(1, 3))
def test_ids_are_exact(prompts: list[list[int]], block_size: int) -> None:
    """Two blocks have the same id if and only if they end equal prefixes."""
    prefix_ids = PrefixIds(block_size)
    prefix_of: dict[int, tuple[int, ...]] = {}
    for prompt in prompts:
        ids = prefix_ids.of(array("i", prompt))
        for place, block_id in enumerate(ids):
            prefix = tuple(prompt[: (place + 1) * block_size])
            assert prefix_of.setdefault(block_id, prefix) == prefix
        assert len(ids) == -(-len(prompt) // block_size)
    assert len(set(prefix_of.values())) == len(prefix_of)


def test_rows_without_tokens(write_lines: WriteLines) -> None:
    """A row with only a number of tokens has no ids; where no row has, there is no block size."""
    bare = {"input_toks": 3, "output_toks": 4}
    mixed = read_trace(write_lines(ROW, bare))

    assert mixed.requests[1] == TraceRequest(1, 2, None, 3, 4)
    assert mixed.block_size == 16
    assert read_trace(write_lines(bare)).block_size is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 256),
        ({"output_toks": 1}, 1),
        ({"output_tokens": 2}, 2),
        ({"output_length": 3}, 3),
        ({"output_len": 4}, 4),
        ({"max_tokens": 5}, 5),
        ({"output_tok_ids": [1, 2, 3, 4, 5, 6]}, 6),
        ({"output_toks": 0}, 0),
    ],
)
def test_output_lengths(write_lines: WriteLines, more: dict[str, object], expected: int) -> None:
    """The length of the output has several names in the field, and a default."""
    tokens = read_trace(write_lines({"input_tok_ids": [1]} | more))
    prompts = read_trace(write_lines({"prompt": "x"} | more), tokenizer=letters)

    assert tokens.requests[0].num_output_tokens == prompts.requests[0].num_output_tokens == expected


def test_default_output_length(write_lines: WriteLines) -> None:
    """The default for rows that do not say can be chosen."""
    path = write_lines({"input_tok_ids": [1]}, ROW)

    assert [r.num_output_tokens for r in read_trace(path, num_output_tokens=9).requests] == [9, 4]
    with pytest.raises(ConfigError, match="num_output_tokens"):
        read_trace(path, num_output_tokens=-1)


def test_prompts_are_tokenized(write_lines: WriteLines) -> None:
    """Text goes through the tokenizer, and equal beginnings get equal ids."""
    trace = read_trace(write_lines({"prompt": "abcd"}, {"prompt": "abcé"}), tokenizer=letters, block_size=2)

    assert [list(r.token_ids or ()) for r in trace.requests] == [[97, 98, 99, 100], [97, 98, 99, 195, 169]]
    assert [list(r.block_ids or ()) for r in trace.requests] == [[0, 1], [0, 2, 3]]


def test_prompts_need_a_tokenizer(write_lines: WriteLines) -> None:
    """Text without a tokenizer is refused, and the message names the option."""
    with pytest.raises(ConfigError, match="--tokenizer NAME_OR_PATH"):
        read_trace(write_lines({"prompt": "x"}))


def test_named_tokenizers_need_transformers(write_lines: WriteLines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers a named tokenizer is refused, and the message says what to install."""
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(ConfigError, match="--tokenizer some/name needs transformers: pip install"):
        read_trace(write_lines({"prompt": "x"}), tokenizer="some/name")


def test_named_tokenizers_are_loaded(write_lines: WriteLines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name goes to transformers; what it cannot load is a configuration error of one line."""

    def from_pretrained(name: str) -> object:
        if name != "good":
            raise OSError("no such\nmodel")
        return lambda text: {"input_ids": letters(text)}

    auto = SimpleNamespace(from_pretrained=from_pretrained)
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=auto))
    path = write_lines({"prompt": "ab"})

    assert list(read_trace(path, tokenizer="good").requests[0].token_ids or ()) == [97, 98]
    with pytest.raises(ConfigError, match="--tokenizer bad cannot be loaded: no such model"):
        read_trace(path, tokenizer="bad")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"input_toks": 4}, "input_toks: expected 3, the number of input_tok_ids, found 4"),
        (
            ROW | {"input_tok_ids": [5, 6, 2**31]},
            r"input_tok_ids\[2\]: expected an integer from 0 to 2147483647",
        ),
        (ROW | {"input_tok_ids": [5, -1]}, r"input_tok_ids\[1\]: .*found -1"),
        (ROW | {"arrival_time_ns": 0.5}, "arrival_time_ns: expected an integer"),
        (ROW | {"output_toks": "4"}, "output_toks: expected an integer"),
        (ROW | {"sub_requests": []}, "sub_requests: sessions cannot be replayed"),
        ({"output_toks": 1}, "input_toks: expected an integer .* is missing"),
    ],
)
def test_wrong_values_are_named(write_lines: WriteLines, row: object, message: str) -> None:
    """A wrong value names line and column."""
    with pytest.raises(TraceFormatError, match=rf":2: {message}"):
        read_trace(write_lines(ROW, row))


@pytest.mark.parametrize("prompt", [None, 5, ["x"]])
def test_prompts_are_text(write_lines: WriteLines, prompt: object) -> None:
    """A prompt that is no string names line and column."""
    with pytest.raises(TraceFormatError, match=r":1: prompt: expected a string, found"):
        read_trace(write_lines({"prompt": prompt}), tokenizer=letters)


@pytest.mark.parametrize("returned", [["a"], [2**40], None, "tokens"])
def test_tokenizers_return_ids(write_lines: WriteLines, returned: list[int]) -> None:
    """A tokenizer that returns something else is named as what is wrong."""
    with pytest.raises(TraceFormatError, match=r":1: prompt: the tokenizer did not return token ids"):
        read_trace(write_lines({"prompt": "x"}), tokenizer=lambda _: returned)
