"""Models that cannot be served are refused, with the reason, if possible before their weights are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import transformers as hf
from transformers.models.llama.modeling_llama import LlamaAttention

from pagedkv.errors import UnsupportedModel
from pagedkv.models import attention, load_model
from pagedkv.models.architectures import COMPARED, model_class
from pagedkv.models.probe import probe
from tests.models import tiny


def _llama(**changes: Any) -> Any:
    return tiny.config("llama", **changes)


def _rope(kind: str, **more: Any) -> Any:
    return _llama(rope_parameters={"rope_type": kind, "rope_theta": 1e4, **more})


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "encoder-decoder": (hf.T5Config, "t5 is an encoder and a decoder"),
    "speech": (hf.WhisperConfig, "whisper is an encoder and a decoder"),
    "no language model": (hf.CLIPConfig, "clip has no causal language model"),
    "images": (hf.Gemma3Config, "more than text; load its text model"),
    "mla": (hf.DeepseekV3Config, "a latent vector of 512 numbers"),
    "state-space": (hf.MambaConfig, "keeps a state besides keys and values"),
    "hybrid of attention and state-space": (hf.JambaConfig, "keeps a state besides keys and values"),
    "hybrid of attention and linear attention": (hf.Qwen3NextConfig, "keeps a state besides"),
    "shared KV layers": (hf.Gemma3nTextConfig, "15 of its layers use the KV of others"),
    "chunked attention": (hf.Llama4TextConfig, "layers of chunked_attention; served are full and sliding"),
    "sparse attention": (lambda: _llama(index_topk=8), "choose which tokens to attend to"),
    "alibi by class": (hf.BloomConfig, "ALiBi"),
    "alibi by setting": (lambda: hf.FalconConfig(alibi=True), "ALiBi"),
    "mrope": (lambda: _rope("default", mrope_section=[2, 3, 3]), "three axes"),
    "dynamic NTK": (lambda: _rope("dynamic", factor=2.0), "dynamic NTK.*longest sequence of a batch"),
    "longrope": (lambda: _rope("longrope", factor=2.0), "longrope.*longest sequence of a batch"),
    "unknown rope": (lambda: _rope("spiral"), "rotary embedding is 'spiral'; served are default, linear"),
    "rope by layer": (
        lambda: tiny.config("gemma3", rope_parameters={"full_attention": {"rope_type": "dynamic"}}),
        "dynamic NTK",
    ),
    "bidirectional": (lambda: _llama(use_bidirectional_attention=True), "its attention looks ahead"),
    "own attention": (hf.GPTJConfig, "GPTJForCausalLM does not take attention functions from outside"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_configuration(kind: str) -> None:
    """A configuration is enough to know, and the message says why."""
    make, reason = REFUSED[kind]
    with pytest.raises(UnsupportedModel, match=reason):
        model_class(make())


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_served(name: str) -> None:
    """The models that are compared are not refused."""
    config = tiny.config(name)
    assert config.model_type in COMPARED
    assert model_class(config).__name__.endswith(("ForCausalLM", "LMHeadModel"))


def test_refused_before_weights_are_read(tmp_path: Path) -> None:
    """A refusal does not wait for the loading."""
    hf.BloomConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(UnsupportedModel, match="bloom cannot be served"):
        load_model(tmp_path, device="cpu")


# What only a forward tells.


def _probed(change: Callable[[Any], None]) -> None:
    attention.register()
    config = _llama()
    model = hf.LlamaForCausalLM._from_config(config, attn_implementation=attention.NAME)
    change(model)
    probe(model.eval())


def _widened(model: Any) -> None:
    """The second layer has twice as many KV heads."""
    config = _llama(num_key_value_heads=4)
    config._attn_implementation = attention.NAME
    model.model.layers[1].self_attn = LlamaAttention(config, 1)


def _repeated(model: Any) -> None:
    model.model.layers[1] = model.model.layers[0]


def _emptied(model: Any) -> None:
    model.model.layers[1].forward = lambda hidden, **_: hidden


def _looking_ahead(model: Any) -> None:
    model.model.layers[1].self_attn.is_causal = False


def _nameless(model: Any) -> None:
    model.model.layers[1].self_attn.layer_idx = None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_widened, r"layers of LlamaForCausalLM differ in \(query heads, KV heads"),
        (_repeated, "layer 0 attends more than once"),
        (_emptied, r"has 2 layers, and attention was asked for by \[0\]"),
        (_looking_ahead, "layer 1 looks ahead"),
        (_nameless, "does not know which layer it is"),
    ],
)
def test_refused_by_a_forward(change: Callable[[Any], None], reason: str) -> None:
    """Layers that are not alike, attend twice or never, look ahead, or have no number."""
    with pytest.raises(UnsupportedModel, match=reason):
        _probed(change)


def test_an_untested_architecture_is_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that agrees with itself is served, with a warning; one that does not is refused."""
    config = hf.GraniteConfig(**{key: getattr(_llama(), key) for key in _SHAPE})
    folder = tiny.save(config, tmp_path / "granite")
    loaded = load_model(folder, device="cpu")
    assert loaded.spec.architecture not in COMPARED
    assert "granite is not among the architectures that were tested" in caplog.text
    assert loaded.model.config._attn_implementation == attention.NAME

    monkeypatch.setattr("pagedkv.models.probe._options", _without_scale(monkeypatch))
    with pytest.raises(UnsupportedModel, match=r"its logits are [\d.]+% off those of its own attention"):
        load_model(folder, device="cpu")


_SHAPE = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip


def _without_scale(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A probe that does not see the scale of the scores, which granite has of its own."""
    from pagedkv.models import probe as module

    found = module._options

    def options(layer: Any, query: Any, settings: Any, number: int) -> Any:
        return found(layer, query, {key: settings[key] for key in settings if key != "scaling"}, number)

    return options
