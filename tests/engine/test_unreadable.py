"""Tokenizers that raise at some tokens, and ids that are used again: neither harms another request."""

import pytest

from pagedkv.engine import Engine, RequestOutput
from pagedkv.errors import ConfigError
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import ByteTokenizer, scripted, toy_engine

GREEDY = SamplingParams(max_tokens=6, temperature=0.0, ignore_eos=True)
BAD = ord("b")


class NarrowTokenizer(ByteTokenizer):
    """Knows one token less than its model."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        if 0 in token_ids:
            raise IndexError("piece id is out of range")
        return super().decode(token_ids, skip_special_tokens=skip_special_tokens)


def say(token_ids: list[int], seed: int, index: int) -> int:
    """Behind the bad prompt, the third token is the one that the tokenizer does not know."""
    return 0 if token_ids[0] == BAD and len(token_ids) == 3 else ord("a") + len(token_ids)


def narrow_engine() -> Engine:
    """An engine whose model says what its tokenizer does not know."""
    return toy_engine(tokenizer=NarrowTokenizer(), say=say)[0]


def run(engine: Engine) -> tuple[dict[object, RequestOutput], list[IndexError]]:
    """The finished outputs, each told once, and the errors."""
    found: dict[object, RequestOutput] = {}
    errors = []
    while engine.has_unfinished:
        try:
            outputs = engine.step()
        except IndexError as error:
            errors.append(error)
            continue
        for each in outputs:
            assert each.request_id not in found
            if each.finished:
                found[each.request_id] = each
    return found, errors


def test_a_text_that_cannot_be_told_at_the_end() -> None:
    """Its tokens are told, the error too, and all that ends in the same step."""
    engine = narrow_engine()
    prompts = {"first": "g", "bad": "b", "last": "g"}
    for name, prompt in prompts.items():
        engine.add_request(prompt, GREEDY, request_id=name)
    found, errors = run(engine)

    assert {name: each.outputs[0].text for name, each in found.items()} == {
        "first": "bcdefg", "bad": "", "last": "bcdefg"
    }  # fmt: skip
    assert [len(each.outputs[0].token_ids) for each in found.values()] == [6, 6, 6]
    assert len(errors) == 1
    assert errors[0].__notes__ == ["pagedkv: raised by the tokenizer at the tokens of 'bad'"]


@pytest.mark.parametrize("kind", [{"stream": True}, {"params": SamplingParams(max_tokens=6, stop="no")}])
def test_a_text_that_cannot_be_read_ends_its_request(kind: dict[str, object]) -> None:
    """It is aborted where that shows, and the others go on."""
    engine = narrow_engine()
    engine.add_request("g", GREEDY, request_id="good")
    engine.add_request("b", **{"params": GREEDY, **kind}, request_id="bad")
    engine.step()
    engine.step()
    with pytest.raises(IndexError):
        engine.step()
    found, errors = run(engine)

    assert errors == []
    assert found["bad"].outputs[0].finish_reason == "abort"
    assert found["good"].outputs[0].text == "bcdefg"
    assert engine.scheduler.cache.pool.num_free == 64


def test_a_stream_that_cannot_be_read_ends() -> None:
    """It raises once, and then tells that it was aborted; one beside it has all its text."""
    engine = narrow_engine()
    bad, good = engine.stream("b", GREEDY), engine.stream("g", GREEDY)
    told = [next(bad), next(bad)]
    with pytest.raises(IndexError):
        next(bad)
    told += bad

    assert "".join(each.text for output in told for each in output.outputs) == "bc"
    assert told[-1].finished
    assert told[-1].outputs[-1].finish_reason == "abort"
    assert "".join(each.text for output in good for each in output.outputs) == "bcdefg"


def test_generate_with_a_text_that_cannot_be_told() -> None:
    """It raises and leaves none behind; an abort of such a request tells what there was."""
    engine = narrow_engine()
    with pytest.raises(IndexError):
        engine.generate(["g", "b"], GREEDY)
    assert not engine.has_unfinished
    request_id = engine.add_request("b", GREEDY)
    for _ in range(4):
        engine.step()
    cut = engine.abort(request_id)

    assert (cut.outputs[0].text, len(cut.outputs[0].token_ids)) == ("", 4)
    assert engine.generate("g", GREEDY)[0].outputs[0].text == "bcdefg"


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_stream_ends_no_other_request_of_its_id(is_closed: bool) -> None:
    """One that is left when its request has ended leaves the next of that id alone."""
    engine, _ = toy_engine(say=scripted(b"abcdefgh"))
    stream = engine.stream([1], GREEDY, request_id="x")
    engine.abort("x")
    engine.add_request([2], GREEDY, request_id="x")
    if is_closed:
        stream.close()
    del stream
    found, _ = run(engine)

    assert found["x"].prompt_token_ids == [2]
    assert found["x"].outputs[0].finish_reason == "length"


def test_parameters_that_are_none() -> None:
    """An empty dictionary is not the usual parameters."""
    engine, _ = toy_engine()
    with pytest.raises(ConfigError, match="they must be SamplingParams"):
        engine.add_request([1], {})
