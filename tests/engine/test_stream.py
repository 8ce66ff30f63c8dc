"""Streams, stop texts, and what is told of them."""

from collections.abc import Callable, Sequence

import pytest

from pagedkv.engine import RequestOutput
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import END, ByteTokenizer, answer, scripted, toy_engine

GREEDY = SamplingParams(max_tokens=30, temperature=0.0)


def joined(outputs: Sequence[RequestOutput], index: int = 0) -> tuple[str, list[int], str | None]:
    """A sample's text, tokens and end, put together from all that was told of it."""
    parts = [each for output in outputs for each in output.outputs if each.index == index]
    ends = [each.finish_reason for each in parts if each.finish_reason is not None]
    assert len(ends) <= 1
    tokens = [token for each in parts for token in each.token_ids]
    return "".join(each.text for each in parts), tokens, ends[0] if ends else None


def test_a_stream_tells_everything_once() -> None:
    """Its parts make up the output that `generate` gives, and only the last one is finished."""
    text = "größer ist besser"
    engine, _ = toy_engine(tokenizer=ByteTokenizer(), say=scripted(text.encode()))
    parts = list(engine.stream("x", GREEDY))

    assert joined(parts) == (text, [*text.encode(), END], "stop")
    assert [each.finished for each in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) == len(text.encode()) + 1
    assert "\ufffd" not in "".join(part.text for each in parts for part in each.outputs)


def test_a_character_that_stays_incomplete_is_told_at_the_end() -> None:
    """The bytes that never became one are shown as such, as decoding all at once does."""
    say = scripted(b"ab\xc3")
    streamed, _ = toy_engine(tokenizer=ByteTokenizer(), say=say)
    whole, _ = toy_engine(tokenizer=ByteTokenizer(), say=say)

    assert joined(list(streamed.stream("x", GREEDY)))[0] == "ab\ufffd"
    assert whole.generate("x", GREEDY)[0].outputs[0].text == "ab\ufffd"


@pytest.mark.parametrize(
    ("stop", "text", "num_tokens"),
    [
        ((", 3",), "1, 2", 7),
        (("4", "2"), "1, ", 4),
        ((", 2, 3", ", 2,"), "1", 5),
        (("1",), "", 1),
        (("no such",), "1, 2, 3, 4", 11),
        (("4",), "1, 2, 3, ", 10),
    ],
)
def test_stop_texts(stop: tuple[str, ...], text: str, num_tokens: int) -> None:
    """The first stop text ends the sample, and is left out; a stream never shows any part of it."""
    params = SamplingParams(max_tokens=30, temperature=0.0, stop=stop)
    engine, _ = toy_engine(tokenizer=ByteTokenizer(), say=scripted(b"1, 2, 3, 4"))
    out = engine.generate("x", params)[0].outputs[0]

    assert (out.text, len(out.token_ids), out.finish_reason) == (text, num_tokens, "stop")
    assert joined(list(engine.stream("x", params))) == (text, list(out.token_ids), "stop")


def test_stop_texts_of_samples_end_them_one_by_one() -> None:
    """A sample that ends with its first token, too, has no token more, and the others go on."""
    say = scripted(b"a.bc", b".abc", b"abcd")
    params = SamplingParams(max_tokens=4, n=3, stop=(".",), logprobs=1)
    engine, _ = toy_engine(tokenizer=ByteTokenizer(), say=say)
    found = engine.generate("x", params)[0].outputs
    streamed = list(engine.stream("x", params))

    told = [(each.text, bytes(each.token_ids), each.finish_reason) for each in found]
    assert told == [("a", b"a.", "stop"), ("", b".", "stop"), ("abcd", b"abcd", "length")]
    assert [len(each.logprobs) for each in found] == [2, 1, 4]
    for index in range(3):
        text, tokens, reason = joined(streamed, index)
        assert (text, bytes(tokens), reason) == told[index]


def test_a_stop_text_through_preemptions_and_failures() -> None:
    """Text is read once, however often its tokens are computed."""
    say = scripted(b"abcdefgh.ijkl")
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=("h.",))
    engine, model = toy_engine(num_blocks=12, tokenizer=ByteTokenizer(), say=say, max_batch_tokens=16)
    request_ids = [engine.add_request("x", params, stream=bool(i % 2)) for i in range(9)]
    model.before = failing_every(3)
    outputs = []
    while engine.has_unfinished:
        try:
            outputs += engine.step()
        except OSError:
            continue

    for request_id in request_ids:
        own = [each for each in outputs if each.request_id == request_id]
        assert joined(own) == ("abcdefg", list(b"abcdefgh."), "stop")
        assert sum(each.finished for each in own) == 1
    assert engine.stats().num_preemptions > 0
    assert engine.stats().num_failed_steps > 0


def failing_every(number: int) -> Callable[[object], None]:
    """Raises at the second of each so many steps, for `ToyModel.before`."""
    seen = iter(range(10**9))

    def before(step: object) -> None:
        if next(seen) % number == 1:
            raise OSError(5, "the device is gone")

    return before


def test_closing_a_stream_early_ends_its_request() -> None:
    """Its blocks are free, and others run on."""
    engine, _ = toy_engine()
    stay = engine.add_request([1, 2, 3], GREEDY)
    with engine.stream([4, 5], GREEDY) as stream:
        next(stream)
        assert stream.request_id in engine.scheduler.requests
    assert list(engine.scheduler.requests) == [stay]
    assert list(stream) == []

    forgotten = engine.stream([4, 5], GREEDY)
    del forgotten
    outputs = []
    while engine.has_unfinished:
        outputs += engine.step()
    assert [each.outputs[0].token_ids for each in outputs] == [answer([1, 2, 3], 30)]
    assert engine.scheduler.cache.pool.num_free == 64


def test_two_streams_take_turns() -> None:
    """Neither swallows what is the other's."""
    engine, _ = toy_engine()
    params = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)
    first, second = engine.stream([1], params), engine.stream([2], params)
    turns = list(zip(first, second, strict=True))

    told = [joined([pair[i] for pair in turns])[1] for i in (0, 1)]
    assert told == [each.outputs[0].token_ids for each in engine.generate([[1], [2]], params)]


def test_a_stream_that_is_aborted_ends() -> None:
    """It tells how."""
    engine, _ = toy_engine()
    stream = engine.stream([1], GREEDY)
    first = next(stream)
    told = engine.abort(stream.request_id)
    rest = list(stream)

    assert told.finished
    assert rest == [told]
    assert joined([first, *rest])[2] == "abort"


def test_a_stream_outlives_an_error() -> None:
    """What the executor raises reaches whoever asks; then the stream goes on."""
    engine, model = toy_engine()
    stream = engine.stream([1], GREEDY)
    parts = [next(stream)]
    model.before = failing_every(4)
    num_errors = 0
    while True:
        try:
            parts.append(next(stream))
        except StopIteration:
            break
        except OSError:
            num_errors += 1

    assert num_errors > 0
    assert joined(parts)[1] == answer([1], 30)


def test_beams_have_nothing_to_tell_before_their_end() -> None:
    """A stream of a search is its result."""
    engine, _ = toy_engine()
    params = SamplingParams(max_tokens=5, beam_width=3, n=2)

    streamed = list(engine.stream([1, 2], params))
    assert len(streamed) == 1
    assert streamed[0].outputs == engine.generate([[1, 2]], params)[0].outputs
