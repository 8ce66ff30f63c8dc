"""Text that grows by tokens: it is the text of all tokens, and ends where the first stop text does."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pagedkv.sampling.detokenizer import Detokenizer
from pagedkv.sampling.stop_text import TextReader
from tests.examples import examples
from tests.sampling.texts import (
    SAMPLE,
    ByteTokenizer,
    Counting,
    byte_fallback_tokenizer,
    byte_level_tokenizer,
)

BYTES = ByteTokenizer()
ALPHABET = st.sampled_from("ab \r\n.ö我👋🏽")
TEXTS = st.one_of(st.text(ALPHABET, max_size=60), st.sampled_from(SAMPLE))


def read_all(reader: TextReader, token_ids: Sequence[int]) -> list[str]:
    """What becomes certain with each token, and at the end."""
    told: list[str] = []
    for token_id in token_ids:
        if reader.read(token_id):
            break
        told.append(reader.text(sum(map(len, told)), is_final=False))
    told.append(reader.text(sum(map(len, told)), is_final=True))
    return told


@pytest.fixture(scope="module", params=["bytes", "byte-level", "byte fallback"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """One of three kinds; the second and third are real ones."""
    if request.param == "bytes":
        return BYTES
    pytest.importorskip("tokenizers", reason="real tokenizers are made with it")
    return byte_level_tokenizer() if request.param == "byte-level" else byte_fallback_tokenizer()


def ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text."""
    found = tokenizer.encode(text)
    return list(getattr(found, "ids", found))


@settings(deadline=None)
@given(st.lists(st.integers(0, 256), max_size=80), st.booleans())
@example([0xF0, 0x9F, 0x91] * 30, True)
@example([0xE4, 256, 0xBD, 256, 256, 0xA0], True)
def test_any_bytes_at_all(token_ids: list[int], skips: bool) -> None:
    """Bytes that are no text, cut anywhere, with special tokens between them."""
    reader = TextReader(BYTES, skip_special_tokens=skips)
    assert "".join(read_all(reader, token_ids)) == BYTES.decode(token_ids, skip_special_tokens=skips)
    assert reader.num_tokens == len(token_ids)


@pytest.mark.parametrize("text", ["👋", "我", "ö", "x"])
def test_a_character_behind_any_number_of_bytes_that_are_none(text: str) -> None:
    """Such bytes are told of before a character follows, and the first bytes of one are not among them."""
    for num_bytes in range(40):
        told = read_all(TextReader(BYTES), [*[0xFF] * num_bytes, *BYTES.encode(text)])
        assert "".join(told) == "\ufffd" * num_bytes + text
    assert max(map(len, told)) <= 16


@settings(max_examples=examples(120), deadline=None)
@given(data=st.data(), skips=st.booleans())
def test_any_tokens_of_a_byte_level_tokenizer(data: st.DataObject, skips: bool) -> None:
    """Tokens in an order in which no text has them."""
    pytest.importorskip("tokenizers", reason="real tokenizers are made with it")
    tokenizer = byte_level_tokenizer()
    token_ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() - 1), max_size=60))
    told = read_all(TextReader(tokenizer, skip_special_tokens=skips), token_ids)
    assert "".join(told) == tokenizer.decode(token_ids, skip_special_tokens=skips)


@settings(max_examples=examples(120), deadline=None)
@given(text=TEXTS)
@example(text="\ufffd \ufffd\ufffdx\ufffd")
def test_a_text(tokenizer: Any, text: str) -> None:
    """The text comes back, as the tokenizer gives it back."""
    token_ids = ids(tokenizer, text)
    told = read_all(TextReader(tokenizer), token_ids)
    assert "".join(told) == tokenizer.decode(token_ids, skip_special_tokens=True)


@settings(max_examples=examples(200), deadline=None)
@given(text=TEXTS, stop=st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=3))
@example(text="aab" * 9, stop=["aabaabb"])
@example(text="abab", stop=["bb", "bab", "ab"])
@example(text="baaab", stop=["aab"])
@example(text="aab", stop=["b", "ab"])
def test_the_first_stop_text_ends_it(tokenizer: Any, text: str, stop: list[str]) -> None:
    """Found with the token that completes it, and left out; nothing of it was told before."""
    token_ids = ids(tokenizer, text)
    whole = tokenizer.decode(token_ids, skip_special_tokens=True)
    ends = [(whole.find(each) + len(each), -len(each)) for each in stop if each in whole]
    reader = TextReader(tokenizer, stop)
    told = "".join(read_all(reader, token_ids))
    assert reader.is_stopped == bool(ends)
    if not ends:
        assert told == whole
        return
    end, negative = min(ends)
    assert told == whole[: end + negative]
    certain = (tokenizer.decode(token_ids[:n], skip_special_tokens=True).rstrip("\ufffd") for n in count(1))
    assert reader.num_tokens == next(n for n, text in enumerate(certain, 1) if len(text) >= end)


@settings(deadline=None)
@given(st.text("ab", max_size=40), st.text("ab", min_size=1, max_size=5))
def test_what_is_held_back_is_no_more_than_a_stop_text_could_need(text: str, stop: str) -> None:
    """The longest end of the text that the stop text begins with."""
    reader = TextReader(BYTES, [stop])
    for at, token_id in enumerate(BYTES.encode(text), 1):
        if reader.read(token_id):
            break
        so_far = text[:at]
        held = max(n for n in range(len(stop)) if so_far.endswith(stop[:n]))
        assert reader.text(is_final=False) == so_far[: at - held]


def test_nothing_is_read_behind_a_stop_text() -> None:
    """Tokens that come later change neither the text nor the count."""
    reader = TextReader(BYTES, ["stop"])
    assert [reader.read(token_id) for token_id in BYTES.encode("do stop it")] == [False] * 6 + [True] * 4
    assert (reader.text(is_final=False), reader.num_tokens) == ("do ", 7)
    assert reader.text(1, is_final=True) == "o "


def test_silent_tokens_are_counted_and_say_nothing() -> None:
    """An end token that is not special has no text either."""
    reader = TextReader(BYTES, ["!"], silent=[ord("!")])
    assert "".join(read_all(reader, BYTES.encode("Stop!"))) == "Stop"
    assert (reader.num_tokens, reader.is_stopped) == (5, False)


def test_special_tokens_are_told_on_request() -> None:
    """And left out otherwise."""
    assert "".join(read_all(TextReader(BYTES), [65, 256, 66])) == "AB"
    assert "".join(read_all(TextReader(BYTES, skip_special_tokens=False), [65, 256, 66])) == "A<end>B"


def test_a_stop_text_in_what_was_never_completed() -> None:
    """Half a character at the end is told at the end, and counts then."""
    reader = TextReader(BYTES, ["a\ufffd"])
    for token_id in (98, 97, 0xE4, 0xBD):
        assert not reader.read(token_id)
    assert reader.text(is_final=False) == "b"
    assert reader.text(is_final=True) == "b"
    assert reader.is_stopped


@pytest.mark.parametrize(
    "token_ids",
    [BYTES.encode("tea for two"), [0xE4, 0xBD, 0xA0], [0xFF], [256], [0x80, 0xE4]],
    ids=["text", "characters", "no characters", "special", "halves"],
)
def test_a_token_costs_the_same_however_long_the_text_is(token_ids: list[int]) -> None:
    """Decoded tokens for each that is read: a constant."""
    tokenizer = Counting(BYTES)
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=True)
    costs = []
    for _ in range(40):
        before = tokenizer.num_decoded
        for token_id in token_ids * 25:
            detokenizer.push(token_id)
        costs.append((tokenizer.num_decoded - before) / (25 * len(token_ids)))
    assert max(costs[2:]) <= 24
    assert max(costs[20:]) <= max(costs[:20])
