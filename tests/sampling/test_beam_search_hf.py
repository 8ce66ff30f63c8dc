"""Beam search finds what transformers' own finds, on tiny random models that run without a cache."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch", reason="models are torch modules")
pytest.importorskip("transformers", reason="the reference is its generate()")

import torch
import transformers

from pagedkv.sampling import SamplingParams
from pagedkv.sampling.beam_search import BeamSearch, Hypothesis
from pagedkv.sampling.sampler import Sampler
from tests.sampling.steps import Member, step_of

VOCAB = 24
MAX_TOKENS = 12
ENDS = (2, 9, 16, 20, 5)
PROMPT = [3, 1, 4, 1, 5]


def tiny_model(seed: int) -> Any:
    """A model whose distributions are neither flat nor nearly certain, so that beams cross and end."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(12)
    return model


@pytest.fixture(scope="module")
def models() -> list[Any]:
    """Some models."""
    with torch.random.fork_rng():
        return [tiny_model(seed) for seed in range(6)]


@torch.no_grad()
def ours(
    model: Any, params: SamplingParams, ends: Sequence[int], max_tokens: int = MAX_TOKENS
) -> list[Hypothesis]:
    """Search with one forward of whole sequences a step."""
    search, sampler = BeamSearch(params, ends, max_tokens), Sampler()
    beams: list[list[int]] = [[]]
    while not search.is_done:
        logits = model(torch.tensor([[*PROMPT, *tokens] for tokens in beams])).logits[:, -1]
        step = step_of(prefills=[Member(params, PROMPT, tokens, stop_token_ids=ends) for tokens in beams])
        candidates = sampler.sample(logits, step).candidates
        families = search.advance([candidates[place] for place in range(len(beams))])
        going_on = [(tokens, family) for tokens, family in zip(beams, families, strict=True) if family]
        beams = [[*tokens, family[0]] for tokens, family in going_on]
        beams += [[*tokens, token] for tokens, family in going_on for token in family[1:]]
    return search.results()


@torch.no_grad()
def theirs(
    model: Any, params: SamplingParams, ends: Sequence[int], max_tokens: int = MAX_TOKENS
) -> tuple[list[list[int]], list[float]]:
    """Tokens behind the prompt, and scores, of each result of `generate`."""
    prompt = torch.tensor([PROMPT])
    found = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        num_beams=params.beam_width,
        do_sample=False,
        num_return_sequences=params.n,
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        repetition_penalty=float(params.repetition_penalty),
        max_new_tokens=max_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=VOCAB - 1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    lengths = (found.beam_indices >= 0).sum(1).tolist()
    rows = found.sequences[:, len(PROMPT) :].tolist()
    return [row[:n] for row, n in zip(rows, lengths, strict=True)], found.sequences_scores.tolist()


def check(
    model: Any, params: SamplingParams, ends: Sequence[int], max_tokens: int = MAX_TOKENS
) -> list[Hypothesis]:
    """Compare tokens and scores."""
    found = ours(model, params, ends, max_tokens)
    tokens, scores = theirs(model, params, ends, max_tokens)
    assert [list(each.token_ids) for each in found] == tokens
    assert [each.score for each in found] == pytest.approx(scores, rel=1e-5, abs=1e-5)
    for each in found:
        assert (each.finish_reason == "stop") == (each.token_ids[-1] in ends)
        assert each.score == pytest.approx(
            each.cumulative_logprob / len(each.token_ids) ** params.length_penalty, rel=1e-6
        )
    return found


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("ends", [(), (7,), ENDS], ids=["no end", "one end", "five ends"])
@pytest.mark.parametrize("width", [2, 4])
def test_as_generate(
    models: list[Any], width: int, ends: Sequence[int], length_penalty: float, early_stopping: bool
) -> None:
    """Ends, penalties and counts of results; early stopping on every other model, none on the others."""
    for at, model in list(enumerate(models))[early_stopping::2]:
        params = SamplingParams(
            beam_width=width,
            n=1 + at % width,
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        check(model, params, ends)


@pytest.mark.parametrize("repetition_penalty", [0.7, 1.4])
def test_as_generate_with_a_repetition_penalty(models: list[Any], repetition_penalty: float) -> None:
    """The penalty is on log-probabilities, which are not normalised again."""
    params = SamplingParams(beam_width=3, n=3, repetition_penalty=repetition_penalty)
    found = [check(model, params, (7,)) for model in models]
    plain = [ours(model, SamplingParams(beam_width=3, n=3), (7,)) for model in models]
    assert found != plain


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1])
@pytest.mark.parametrize("max_tokens", [1, 2, 30])
def test_as_generate_at_other_lengths(models: list[Any], max_tokens: int, length_penalty: float) -> None:
    """The shortest searches, longer ones, and scores that length makes worse."""
    params = SamplingParams(beam_width=4, n=4, length_penalty=length_penalty)
    for model in models[:2]:
        check(model, params, (2, 9), max_tokens)


def test_the_models_put_searches_to_the_test(models: list[Any]) -> None:
    """Results of several lengths, that end by themselves or not; early stopping makes a difference."""
    params = SamplingParams(beam_width=4, n=4)
    patient = [ours(model, params, ENDS) for model in models]
    hasty = [ours(model, replace(params, early_stopping=True), ENDS) for model in models]
    assert {each.finish_reason for found in patient for each in found} == {"stop", "length"}
    assert len({len(each.token_ids) for found in patient for each in found}) > 3
    assert sum(one != other for one, other in zip(patient, hasty, strict=True)) > 1
