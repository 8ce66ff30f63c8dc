"""Greedy outputs of an engine equal those of transformers' `generate`, whatever happens to the requests."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("transformers")

from pagedkv.sampling.params import SamplingParams
from tests.engine.pretrained.conftest import EngineOf, prompts, token_ids

COUNT = 12
PARAMS = SamplingParams(max_tokens=COUNT, temperature=0.0)
SETTINGS: dict[str, dict[str, Any]] = {
    "whole prompts": {},
    "chunks": {"max_batch_tokens": 11},
    "small chunks": {"max_chunk_tokens": 4},
    "preemption": {"num_blocks": 14, "max_batch_tokens": 24},
    "no prefix caching": {"cache": {"prefix_caching": False}, "num_blocks": 16},
    "one at a time": {"max_running": 1},
    "windows": {"batch_merge_window_ms": 5.0, "length_buckets": (4, 16), "adaptive_batch_size": True},
}

architectures = pytest.mark.parametrize(
    "name",
    ["llama", "gpt_oss", *(pytest.param(name, marks=pytest.mark.heavy) for name in ("gpt2", "gemma2"))],
)  # tests/models/test_greedy.py has all of them under the same settings, without the engine around it
Greedy = Callable[[str, list[int], int], list[int]]


@pytest.fixture
def expected(name: str, greedy_of: Greedy) -> list[list[list[int]]]:
    """What each prompt is followed by; varied enough that a fault shows."""
    found = [greedy_of(name, prompt, COUNT) for prompt in prompts()]
    assert sum(len(set(tokens)) for tokens in found) > 40, "a model that repeats itself proves little"
    return [[each] for each in found]


@architectures
@pytest.mark.parametrize("setting", SETTINGS)
def test_equals_transformers(
    name: str, setting: str, engine_of: EngineOf, expected: list[list[list[int]]]
) -> None:
    """Token by token, under every setting; all blocks are home at the end."""
    with engine_of(name, **SETTINGS[setting]) as engine:
        assert token_ids(engine.generate(prompts(), PARAMS)) == expected
        engine.scheduler.cache.check_integrity()
        pool = engine.scheduler.cache.pool
        assert pool.num_free == pool.num_blocks
        assert (engine.stats().num_preemptions > 0) == (pool.num_blocks < 20)


@architectures
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_prompts_that_were_there(
    name: str, prefix_caching: bool, engine_of: EngineOf, expected: list[list[list[int]]]
) -> None:
    """A second time, with the blocks of the first or without, and continued by their own answers."""
    engine = engine_of(name, cache={"prefix_caching": prefix_caching})
    assert token_ids(engine.generate(prompts(), PARAMS)) == expected
    assert token_ids(engine.generate(prompts(), PARAMS)) == expected
    assert (engine.stats().num_hit_tokens > 0) == prefix_caching

    longer = [[*prompt, *said[0][:5]] for prompt, said in zip(prompts(), expected, strict=True)]
    rest = token_ids(engine.generate(longer, SamplingParams(max_tokens=COUNT - 5, temperature=0.0)))
    assert rest == [[said[0][5:]] for said in expected]


@architectures
def test_aborts_do_not_change_the_others(
    name: str, engine_of: EngineOf, expected: list[list[list[int]]]
) -> None:
    """Two are aborted on the way, and one more comes; their neighbours say the same."""
    engine = engine_of(name, num_blocks=40, max_batch_tokens=24)
    request_ids = [engine.add_request(prompt, PARAMS) for prompt in prompts()]
    found = {}
    for step in range(1000):
        if step == 4:
            cut = engine.abort(request_ids[1])
        if step == 6:
            engine.abort(request_ids[4])
            request_ids.append(engine.add_request(prompts()[1], PARAMS))
        found.update({each.request_id: each for each in engine.step()})
        if not engine.has_unfinished:
            break

    assert 0 < len(cut.outputs[0].token_ids) < COUNT
    assert list(cut.outputs[0].token_ids) == expected[1][0][: len(cut.outputs[0].token_ids)]
    stay = [0, 2, 3, 5, 6, 7]
    assert sorted(found) == [request_ids[i] for i in stay]
    assert token_ids([found[request_ids[i]] for i in stay]) == [
        expected[i % 6 if i == 7 else i] for i in stay
    ]
