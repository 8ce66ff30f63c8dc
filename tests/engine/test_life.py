"""Requests that come and go, what the executor raises, and the engine's own end."""

import json
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from pagedkv.config import CacheConfig
from pagedkv.engine import Engine, RequestOutput
from pagedkv.errors import (
    ConfigError,
    DuplicateRequest,
    InvalidLogits,
    InvalidRequest,
    PagedKVError,
    RequestRefused,
    TokenizerMissing,
    UnknownRequest,
)
from pagedkv.request import TokenPrompt
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler import ScheduledStep
from tests.engine.toy import ByteTokenizer, ToyModel, answer, toy_engine

GREEDY = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True)


def finished(engine: Engine) -> dict[object, RequestOutput]:
    """What `step` tells of all requests, to the end."""
    found: dict[object, RequestOutput] = {}
    while engine.has_unfinished:
        for output in engine.step():
            assert output.request_id not in found
            found[output.request_id] = output
    return found


def test_requests_join_and_leave_while_others_run() -> None:
    """Each has its own answer, whenever it came; an aborted one tells what there was of it."""
    engine, _ = toy_engine(num_blocks=20, max_batch_tokens=8)
    first = engine.add_request([1, 2, 3], GREEDY)
    engine.step()
    second = engine.add_request([1, 2, 3, 4, 5, 6], GREEDY, request_id="second")
    for _ in range(3):
        engine.step()
    cut = engine.abort(first)
    third = engine.add_request([9], GREEDY)
    found = finished(engine)

    assert (cut.outputs[0].finish_reason, cut.finished) == ("abort", True)
    assert 0 < len(cut.outputs[0].token_ids) < 8
    assert answer([1, 2, 3], 8)[: len(cut.outputs[0].token_ids)] == cut.outputs[0].token_ids
    assert set(found) == {second, third}
    assert len(found["second"].outputs[0].token_ids) == 8
    assert engine.scheduler.cache.pool.num_free == 20


def not_a_number(*request_ids: object) -> Callable[[ScheduledStep], None]:
    """Raises whenever a step samples for one of these."""

    def before(step: ScheduledStep) -> None:
        met = {each.request.request_id for each in step.sampling()} & set(request_ids)
        if met:
            raise InvalidLogits(sorted(met), f"no finite maximum for {sorted(met)}")

    return before


def test_requests_without_numbers_are_given_up() -> None:
    """They end, whoever asked learns it, and the others have all their tokens."""
    engine, model = toy_engine()
    prompts = {name: [i, i + 1] for i, name in enumerate("abcd", 3)}
    for name, prompt in prompts.items():
        engine.add_request(prompt, GREEDY, request_id=name)
    model.before = not_a_number("b", "d")
    with pytest.raises(InvalidLogits, match="no finite maximum") as raised:
        engine.step()
    found = finished(engine)

    assert raised.value.request_ids == ("b", "d")
    assert {name: each.outputs[0].finish_reason for name, each in found.items()} == {
        "a": "length", "b": "abort", "c": "length", "d": "abort"
    }  # fmt: skip
    assert [list(found[name].outputs[0].token_ids) for name in "bd"] == [[], []]
    assert engine.stats().num_failed_steps == 1
    assert engine.stats().num_aborted == 2
    assert engine.scheduler.cache.pool.num_free == 64


def test_streams_without_numbers_end() -> None:
    """The stream raises once, and then tells that its request was aborted; another goes on."""
    engine, model = toy_engine()
    bad, good = engine.stream([1], GREEDY), engine.stream([2], GREEDY)
    next(bad)
    model.before = not_a_number(bad.request_id)
    with pytest.raises(InvalidLogits):
        next(bad)
    rest = list(bad)

    assert [each.finished for each in rest] == [True]
    assert rest[0].outputs[0].finish_reason == "abort"
    assert sum(len(part.outputs[0].token_ids) for part in good) == 8


def test_generate_without_numbers_leaves_none_behind() -> None:
    """It raises, and neither its requests nor their outputs stay; those of others do."""
    engine, model = toy_engine()
    other = engine.add_request([7], GREEDY)
    model.before = not_a_number(2)
    with pytest.raises(InvalidLogits):
        engine.generate([[1], [2], [3]], GREEDY)

    assert set(engine.scheduler.requests) == {other}
    assert set(finished(engine)) == {other}


def test_any_error_of_the_executor_loses_nothing() -> None:
    """The next steps compute again what a failed one has, for samples and beams too."""
    params = [GREEDY, SamplingParams(max_tokens=18, n=3, seed=1), SamplingParams(max_tokens=18, beam_width=3)]
    calm, _ = toy_engine()
    expected = [calm.generate([[4, 5, 6]], each)[0].outputs for each in params]
    engine, model = toy_engine()
    request_ids = [engine.add_request([4, 5, 6], each) for each in params]
    model.before = every_fifth()
    found = {}
    while engine.has_unfinished:
        try:
            found.update({each.request_id: each for each in engine.step()})
        except MemoryError:
            engine.scheduler.cache.check_integrity()

    assert [found[each].outputs for each in request_ids] == expected
    assert engine.stats().num_failed_steps > 1


def every_fifth() -> Callable[[ScheduledStep], None]:
    """Raises at every fifth call: often, but a group of samples takes some steps to come back."""
    calls = count(1)

    def before(step: ScheduledStep) -> None:
        if next(calls) % 5 == 0:
            raise MemoryError

    return before


def refuse(engine: Engine, *arguments: object, **keywords: object) -> Callable[[], object]:
    """A call that must change nothing."""
    return lambda: engine.add_request(*arguments, **keywords)


def test_refusals_change_nothing() -> None:
    """Each says what was asked and what there is; nothing is left behind."""
    engine, _ = toy_engine(num_blocks=10, tokenizer=None)
    engine.add_request([1], GREEDY, request_id=7)
    before = engine.snapshot()
    for call, kind, message in (
        (refuse(engine, []), InvalidRequest, "the prompt is empty"),
        (refuse(engine, "text"), TokenizerMissing, "give the prompt as a list of token ids"),
        (refuse(engine, [1], SamplingParams(stop="x")), TokenizerMissing, "no tokenizer to find texts with"),
        (refuse(engine, [1, 257]), InvalidRequest, "token 257 at position 1"),
        (refuse(engine, [-1]), InvalidRequest, "token -1 at position 0"),
        (refuse(engine, [1] * 100), RequestRefused, "the prompt has 100 tokens, and the model takes 100"),
        (refuse(engine, [1] * 60), RequestRefused, "blocks"),
        (refuse(engine, [1], request_id=7), DuplicateRequest, "request 7 is live already"),
        (refuse(engine, [1], request_id=2.5), InvalidRequest, "request_id is 2.5"),
        (refuse(engine, [1], {"n": 2}), ConfigError, "they must be SamplingParams"),
        (
            refuse(engine, [1], SamplingParams(beam_width=2, logprobs=1)),
            ConfigError,
            "a beam ends with a token",
        ),
        (lambda: engine.abort("nobody"), UnknownRequest, "nobody"),
    ):
        with pytest.raises(kind, match=message):
            call()

    assert engine.snapshot() == before
    assert set(finished(engine)) == {7}


def test_max_tokens_fill_the_room_that_there_is() -> None:
    """They end at the model's length, whatever was asked; None asks for all that is left."""
    engine, _ = toy_engine(num_blocks=100)
    for asked in (500, None):
        params = SamplingParams(max_tokens=asked, temperature=0.0, ignore_eos=True)
        out = engine.generate([[1] * 30], params)[0].outputs[0]
        assert (len(out.token_ids), out.finish_reason) == (70, "length")


def test_priorities_and_namespaces_reach_the_scheduler() -> None:
    """The urgent one is first; equal prompts of two namespaces share nothing."""
    engine, _ = toy_engine(policy="priority", max_running=1, max_wait_ms=None)
    order = [engine.add_request([1] * 9, GREEDY, priority=p, namespace=str(p)) for p in (2, 1, 0)]
    found = finished(engine)
    assert list(found) == order[::-1]
    assert engine.stats().num_hit_tokens == 0

    engine.add_request([1] * 9, GREEDY, namespace="2")
    finished(engine)
    assert engine.stats().num_hit_tokens == 8


def test_stats_count_what_happened() -> None:
    """On a clock that moves a millisecond a step, every time is known."""
    engine, model = toy_engine(num_blocks=24, max_batch_tokens=16)
    engine.generate([[i, i + 1, i + 2] for i in range(12)], GREEDY)
    stats = engine.stats()

    assert (stats.num_requests, stats.num_finished, stats.num_aborted) == (12, 12, 0)
    assert stats.num_steps == len(model.steps)
    assert stats.busy_s == pytest.approx(0.001 * len(model.steps))
    assert stats.step_p50_s == stats.step_p99_s == 0.001
    assert stats.num_generated_tokens == 12 * 8
    assert stats.tokens_per_s == pytest.approx(12 * 8 / stats.busy_s)
    assert stats.mean_batch_size == pytest.approx(sum(model.steps) / len(model.steps))
    assert stats.max_batch_size == max(model.steps)
    assert stats.num_prefill_tokens >= 12 * 3
    assert (stats.num_preemptions > 0) == (stats.num_lost_tokens > 0)
    assert (stats.num_blocks, stats.num_free_blocks) == (24, 24)
    assert 0 < stats.max_blocks_in_use <= 24
    assert 0 < stats.mean_fragmentation_ratio < 1


def test_a_snapshot_is_json() -> None:
    """Waiting, running, forked: it says who holds what, and changes nothing."""
    engine, _ = toy_engine(num_blocks=16, max_running=4)
    for i in range(4):
        engine.add_request([i, 1, 2, 3, 4], SamplingParams(max_tokens=9, n=2, seed=i))
    for _ in range(3):
        engine.step()
    shot = json.loads(json.dumps(engine.snapshot()))

    assert engine.snapshot() == shot
    assert shot["schema_version"] == 1
    assert shot["num_waiting"] + shot["num_running"] == len(shot["requests"]) == 4
    running = [each for each in shot["requests"] if each["status"] != "waiting"]
    assert len(running) == shot["num_running"] > 0
    assert all(each["num_blocks"] > 0 for request in running for each in request["sequences"])
    assert shot["pool"]["num_free"] < shot["pool"]["num_blocks"] == 16
    held = sum(count for refs, count in shot["pool"]["refcount_hist"].items() if refs != "0")
    assert held == 16 - shot["pool"]["num_free"]


def test_a_closed_engine_holds_nothing() -> None:
    """Leaving it aborts what is live and closes the executor, once; then it refuses."""
    engine, model = toy_engine(tokenizer=ByteTokenizer())
    with engine as entered:
        assert entered is engine
        engine.add_request("abc", GREEDY)
        stream = engine.stream("def", GREEDY)
        next(stream)
    engine.close()

    assert isinstance(model, ToyModel)
    assert model.is_closed
    assert engine.scheduler.cache.pool.num_free == 64
    assert engine.stats().num_aborted == 2
    for call in (engine.step, lambda: engine.add_request("x"), lambda: engine.generate("x")):
        with pytest.raises(PagedKVError, match="the engine is closed"):
            call()


def test_prompts_that_are_none() -> None:
    """What is no list of prompts is told from one; an array of two dimensions is one."""
    engine, _ = toy_engine(tokenizer=ByteTokenizer())
    for prompts, message in (
        ([1, 2, 3], r"the first of 3 prompts is 1; token ids .* list of their own"),
        (np.array([1, 2]), "list of their own"),
        (7, "prompts are 7; they must be a list"),
        (None, "prompts are None"),
        (["half \ud800"], r"character 5 of the prompt is '\\ud800', half of a character"),
        ([[1.5]], "token 1.5 at position 0"),
        ([b"abc"], "got bytes"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            engine.generate(prompts, GREEDY)
    assert not engine.has_unfinished

    expected = answer([1, 2], 8)
    for prompts in (TokenPrompt([1, 2]), [TokenPrompt([1, 2])], np.array([[1, 2]]), ([1, 2],)):
        assert engine.generate(prompts, GREEDY)[0].outputs[0].token_ids == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "cpu"}, "offload is 'cpu'"),
        ({"cache": CacheConfig(num_blocks=4, prefix_keys="ids")}, 'a model needs "tokens"'),
    ],
)
def test_settings_that_no_model_can_have(settings: dict[str, object], message: str) -> None:
    """They are refused before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        Engine.from_pretrained("no/such/folder/anywhere", **settings)


def test_models_without_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, with what to install."""
    monkeypatch.setattr("pagedkv.engine.pretrained.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"torch and transformers are not installed.*pip install"):
        Engine.from_pretrained("anything")
