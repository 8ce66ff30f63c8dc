"""Samples that repeat, and beams that equal those of transformers, on real models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM

from pagedkv.sampling.params import SamplingParams
from tests.engine.pretrained.conftest import EngineOf, prompts, token_ids

COUNT = 10
BEAMS = 4
ENDS = [*range(20, 257, 6)]
PROMPTS = (9, 17, 4)  # lengths
TIGHT: dict[str, Any] = {"num_blocks": 18, "max_batch_tokens": 24}

Found = list[tuple[list[int], float]]


def beams_of_transformers(folder: Path, prompt: list[int], ends: Sequence[int]) -> Found:
    """Tokens and scores of `generate`, best first; what is behind an end token is filling."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=COUNT,
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        do_sample=False,
        eos_token_id=list(ends) or None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = [_up_to_end(row, ends) for row in out.sequences[:, len(prompt) :].tolist()]
    return list(zip(rows, out.sequences_scores.tolist(), strict=True))


def _up_to_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    places = [place for place, token in enumerate(tokens) if token in ends]
    return tokens[: places[0] + 1] if places else tokens


@pytest.mark.parametrize(
    "name",
    [
        *("llama", "gemma2", "gpt_oss"),
        *(pytest.param(name, marks=pytest.mark.heavy) for name in ("gpt2", "qwen3", "mistral")),
    ],
)
@pytest.mark.parametrize("ends", [[], ENDS], ids=["fixed length", "end tokens"])
def test_beams_equal_those_of_transformers(
    name: str, ends: list[int], engine_of: EngineOf, folder_of: Callable[[str], Path]
) -> None:
    """All searches at once, with ample blocks, with preemptions, and with copies at the fork."""
    expected = [beams_of_transformers(folder_of(name), prompt, ends) for prompt in prompts(PROMPTS)]
    params = SamplingParams(max_tokens=COUNT, beam_width=BEAMS, n=BEAMS, stop_token_ids=ends)
    for settings in ({}, TIGHT, {"cache": {"fork_mode": "eager"}}, {"cache": {"fork_mode": "full_blocks"}}):
        engine = engine_of(name, **settings)
        outputs = engine.generate(prompts(PROMPTS), params)
        stats, pool = engine.stats(), engine.scheduler.cache.pool

        assert token_ids(outputs) == [[tokens for tokens, _ in found] for found in expected]
        for output, found in zip(outputs, expected, strict=True):
            scores = [each.cumulative_logprob / len(each.token_ids) for each in output.outputs]
            assert scores == pytest.approx([score for _, score in found], abs=1e-4)
        assert (stats.num_preemptions > 0) == (settings is TIGHT)
        assert pool.num_free == pool.num_blocks
        assert stats.counters["sequences_forked"] > 0


def test_end_tokens_end_beams(engine_of: EngineOf) -> None:
    """The comparison with end tokens has beams that end with them, and some that do not."""
    params = SamplingParams(max_tokens=COUNT, beam_width=BEAMS, n=BEAMS, stop_token_ids=ENDS)
    outputs = engine_of("llama").generate(prompts(PROMPTS), params)
    reasons = {each.finish_reason for output in outputs for each in output.outputs}
    assert "stop" in reasons


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_samples_repeat(name: str, engine_of: EngineOf) -> None:
    """Samples are the same alone, in a crowd, in a tight pool, and copied at the fork."""
    params = [
        SamplingParams(max_tokens=COUNT, n=4, seed=seed, temperature=0.9, top_k=40, top_p=0.95)
        for seed in range(len(PROMPTS))
    ]
    alone = [
        engine_of(name).generate([each], [own])[0] for each, own in zip(prompts(PROMPTS), params, strict=True)
    ]
    expected = token_ids(alone)
    assert all(len({*map(tuple, samples)}) == 4 for samples in expected)
    for settings in ({}, TIGHT, {"max_batch_tokens": 7}, {"cache": {"fork_mode": "eager"}}):
        engine = engine_of(name, **settings)
        for prompt in prompts((8, 20)):
            engine.add_request(prompt, SamplingParams(max_tokens=9))
        assert token_ids(engine.generate(prompts(PROMPTS), params)) == expected
        assert (engine.stats().num_preemptions > 0) == (settings is TIGHT)


def test_greedy_samples_are_equal(engine_of: EngineOf, greedy_of: Callable[..., list[int]]) -> None:
    """Greedy samples of one prompt are what `generate` says, each on blocks of its own."""
    prompt = prompts((10,))[0]
    params = SamplingParams(max_tokens=COUNT, n=3, temperature=0.0)
    found = token_ids(engine_of("llama").generate([prompt], params))[0]

    assert found == [greedy_of("llama", prompt, COUNT)] * 3
