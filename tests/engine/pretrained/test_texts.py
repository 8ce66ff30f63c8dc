"""Texts, stop texts, streams and log-probabilities with a real model and a real tokenizer."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM

from pagedkv.errors import InvalidLogits, RequestRefused, TokenizerMissing
from pagedkv.sampling.params import SamplingParams
from tests.engine.pretrained.conftest import EngineOf, prompts
from tests.models import tiny

GREEDY = SamplingParams(max_tokens=40, temperature=0.0)
TEXTS = ["Once upon a time", "größer als 5 €", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with a tokenizer of bytes, whose end token the model knows."""
    path = tiny.save(tiny.config("llama", eos_token_id=256), tmp_path_factory.mktemp("texts") / "model")
    tiny.save_tokenizer(path)
    return path


def test_text_is_what_the_tokenizer_makes_of_the_tokens(folder: Path, engine_of: EngineOf) -> None:
    """All of it at once, and put together from a stream."""
    engine = engine_of(folder)
    assert engine.tokenizer is not None
    for text, output in zip(TEXTS, engine.generate(TEXTS, GREEDY), strict=True):
        whole = output.outputs[0]
        assert output.prompt_token_ids == engine.tokenizer.encode(text)
        assert whole.text == engine.tokenizer.decode(list(whole.token_ids), skip_special_tokens=True)
        parts = [part for each in engine.stream(text, GREEDY) for part in each.outputs]
        assert "".join(part.text for part in parts) == whole.text
        assert [token for part in parts for token in part.token_ids] == list(whole.token_ids)
        assert len(parts) > 20


def test_stop_texts(folder: Path, engine_of: EngineOf) -> None:
    """A text from the middle of an answer ends it there, streamed or not, in a crowd or not."""
    engine = engine_of(folder, num_blocks=60)
    for text, output in zip(TEXTS, engine.generate(TEXTS, GREEDY), strict=True):
        whole = output.outputs[0].text
        stop = whole[10:12]
        params = SamplingParams(max_tokens=40, temperature=0.0, stop=(stop, "never in it"))
        cut = engine.generate(text, params)[0].outputs[0]
        assert (cut.text, cut.finish_reason) == (whole[: whole.index(stop)], "stop")
        assert len(cut.token_ids) < 40
        streamed = [part.text for each in engine.stream(text, params) for part in each.outputs]
        assert "".join(streamed) == cut.text


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_logprobs_are_those_of_a_plain_forward(
    name: str, engine_of: EngineOf, folder_of: Callable[[str], Path]
) -> None:
    """Of each token, of its likeliest rivals, and in sum, also behind preemptions and in samples."""
    model = AutoModelForCausalLM.from_pretrained(folder_of(name), attn_implementation="eager")
    engine = engine_of(name, num_blocks=30, max_batch_tokens=16)
    params = SamplingParams(max_tokens=8, n=2, seed=3, temperature=1.3, logprobs=5)
    for output in engine.generate(prompts(), params):
        start = len(output.prompt_token_ids)
        for each in output.outputs:
            tokens = torch.tensor([[*output.prompt_token_ids, *each.token_ids]])
            with torch.inference_mode():
                exact = model(tokens).logits[0, start - 1 : -1].log_softmax(-1)
            assert each.logprobs is not None
            told = [entry.logprob for entry in each.logprobs]
            assert [entry.token_id for entry in each.logprobs] == list(each.token_ids)
            assert told == pytest.approx(exact.gather(1, tokens[0, start:, None])[:, 0].tolist(), abs=1e-4)
            assert each.cumulative_logprob == pytest.approx(sum(told))
            best = [[logprob for _, logprob in entry.top] for entry in each.logprobs]
            assert torch.allclose(torch.tensor(best), exact.topk(5).values, atol=1e-4)
            assert all(
                exact[i, t] == pytest.approx(p, abs=1e-4)
                for i, e in enumerate(each.logprobs)
                for t, p in e.top
            )
    assert engine.stats().num_preemptions > 0


def test_what_is_refused(engine_of: EngineOf) -> None:
    """Texts without a tokenizer, and prompts beyond the model's length or the pool's."""
    engine = engine_of("llama", num_blocks=20)
    with pytest.raises(TokenizerMissing, match="give the prompt as a list of token ids"):
        engine.generate("text")
    with pytest.raises(RequestRefused, match="the prompt has 256 tokens, and the model takes 256"):
        engine.generate([[1] * 256])
    with pytest.raises(RequestRefused, match="blocks"):
        engine.generate([[1] * 90])


def test_weights_that_are_no_numbers(engine_of: EngineOf, greedy_of: Callable[..., list[int]]) -> None:
    """A token whose embedding is NaN takes its requests with it, and no others."""
    engine = engine_of("llama")
    with torch.no_grad():
        engine._executor.packed.loaded.model.get_input_embeddings().weight[251].fill_(torch.nan)
    params = SamplingParams(max_tokens=6, temperature=0.0)
    asked = {"good": prompts((9,))[0], "bad": [4, 251, 7], "beams": [251], "fine": prompts((5,))[0]}
    for name, prompt in asked.items():
        own = SamplingParams(max_tokens=6, beam_width=2) if name == "beams" else params
        engine.add_request(prompt, own, request_id=name)
    with pytest.raises(InvalidLogits) as raised:
        engine.step()
    found = {}
    while engine.has_unfinished:
        found.update({each.request_id: each.outputs[0] for each in engine.step()})

    assert raised.value.request_ids == ("bad", "beams")
    assert [found[name].finish_reason for name in raised.value.request_ids] == ["abort", "abort"]
    for name in ("good", "fine"):
        assert list(found[name].token_ids) == greedy_of("llama", asked[name], 6)
