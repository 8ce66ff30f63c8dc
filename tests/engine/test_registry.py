"""A step looks only at the requests that it samples for."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from pagedkv.engine.beams import BeamGroup
from pagedkv.engine.groups import WatchedGroup
from pagedkv.sampling.params import SamplingParams
from tests.engine.test_stream import failing_every
from tests.engine.toy import ByteTokenizer, toy_engine

PLAIN = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
LOOKS = ("read", "committed", "reread", "news")
KINDS: dict[str, tuple[dict[str, Any], bool]] = {
    "stream": ({}, True),
    "stop": ({"stop": ("never said",)}, False),
    "logprobs": ({"logprobs": 1}, False),
    "beams": ({"beam_width": 2}, False),
}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of these was called, for any request."""
    counted: Counter[str] = Counter()

    def count(kind: type, name: str) -> None:
        original = getattr(kind, name)

        def counting(self: object, *args: object) -> object:
            counted[name] += 1
            return original(self, *args)

        monkeypatch.setattr(kind, name, counting)

    for name in LOOKS:
        count(WatchedGroup, name)
    count(BeamGroup, "advance")
    return counted


@pytest.mark.parametrize("kind", KINDS)
def test_those_that_wait_are_not_looked_at(kind: str, looks: Counter[str]) -> None:
    """However many there are, while others run and while steps fail; nothing is looked at."""
    others, streams = KINDS[kind]
    engine, model = toy_engine(tokenizer=ByteTokenizer(), max_running=2)
    for first in (1, 2):
        engine.add_request([first, 7], PLAIN)
    engine.step()
    for first in range(30):
        engine.add_request([first, 8, 9], SamplingParams(max_tokens=8, **others), stream=streams)
    model.before = failing_every(3)
    num_errors = 0
    for _ in range(9):
        try:
            engine.step()
        except OSError:
            num_errors += 1

    assert (engine.scheduler.num_running, engine.scheduler.num_waiting, num_errors) == (2, 30, 3)
    assert looks == Counter()


def test_those_that_run_are_looked_at_once_a_step(looks: Counter[str]) -> None:
    """Two of thirty streams run: each step reads, commits and tells two; the last one tells their ends."""
    engine, model = toy_engine(tokenizer=ByteTokenizer(), max_running=2)
    params = SamplingParams(max_tokens=5, temperature=0.0, ignore_eos=True)
    for first in range(30):
        engine.add_request([first, 8, 9], params, stream=True)
    told = [output.request_id for _ in range(5) for output in engine.step()]

    assert model.steps == [2] * 5
    assert told == [0, 1] * 5
    assert looks == {"read": 10, "committed": 10, "news": 10}


def test_a_prompt_in_pieces_is_not_looked_at_before_its_end(looks: Counter[str]) -> None:
    """Pieces that sample nothing have nothing to tell."""
    engine, _ = toy_engine(tokenizer=ByteTokenizer(), max_batch_tokens=4)
    engine.add_request([*range(12)], PLAIN, stream=True)

    assert [len(engine.step()) for _ in range(2)] == [0, 0]
    assert looks == Counter()
    assert len(engine.step()) == 1
    assert looks == {"read": 1, "committed": 1, "news": 1}


def test_what_a_failed_step_has_read_is_forgotten(looks: Counter[str]) -> None:
    """Candidates that are missing fail a step behind the reading; the stream tells everything once."""
    engine, model = toy_engine(tokenizer=ByteTokenizer())
    request_id = engine.add_request([65], PLAIN, stream=True)
    outputs = engine.step()
    engine.add_request([66], SamplingParams(max_tokens=4, beam_width=2))
    execute = model.execute
    model.execute = lambda step: replace(execute(step), candidates={})  # type: ignore[method-assign]
    with pytest.raises(KeyError):
        engine.step()
    assert (looks["read"], looks["reread"]) == (2, 1)
    model.execute = execute  # type: ignore[method-assign]
    while engine.has_unfinished:
        outputs += engine.step()

    told = [part for each in outputs if each.request_id == request_id for part in each.outputs]
    (alone,) = toy_engine(tokenizer=ByteTokenizer())[0].generate([[65]], PLAIN)
    assert "".join(part.text for part in told) == alone.outputs[0].text
    assert [token for part in told for token in part.token_ids] == alone.outputs[0].token_ids


def test_of_many_searches_those_that_run_advance(looks: Counter[str]) -> None:
    """One of ten has its beams in each of four steps; the nine behind it take nothing."""
    engine, model = toy_engine(max_running=2)
    for first in range(10):
        engine.add_request([first, 8], SamplingParams(max_tokens=4, beam_width=2))
    outputs = [engine.step() for _ in range(4)]

    assert [len(each) for each in outputs] == [0, 0, 0, 1]
    assert model.steps == [1, 2, 2, 2]
    assert looks == {"advance": 4}
