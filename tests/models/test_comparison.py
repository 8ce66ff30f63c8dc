"""Models that no test compares are compared with themselves when they are loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from transformers import DogeConfig, MixtralConfig, PhimoeConfig

from pagedkv.errors import UnsupportedModel
from pagedkv.models import load_model
from pagedkv.models.comparison import require_agreement
from tests.models import tiny

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 257,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_that_agrees(dtype: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is served, with a warning, and goes on with our attention."""
    folder = tiny.save(MixtralConfig(**SHAPE, num_local_experts=4, sliding_window=8), tmp_path)
    loaded = load_model(folder, device="cpu", dtype=dtype)
    assert "mixtral is not among the architectures that were tested" in caplog.text
    assert loaded.model.config._attn_implementation == "pagedkv"


def test_one_that_does_not(tmp_path: Path) -> None:
    """Its own mask has a window of which it does not tell attention: no probe can see that."""
    folder = tiny.save(PhimoeConfig(**SHAPE, num_local_experts=4, sliding_window=8), tmp_path)
    with pytest.raises(
        UnsupportedModel, match=r"phimoe cannot be served: over paged KV its logits are .*% off"
    ):
        load_model(folder, device="cpu")


def test_one_that_makes_a_mask(tmp_path: Path) -> None:
    """Of its keys; behind few tokens it hides nothing."""
    folder = tiny.save(DogeConfig(**SHAPE), tmp_path)
    with pytest.raises(UnsupportedModel, match="DogeAttention has a mask of its own"):
        load_model(folder, device="cpu")


def test_those_that_tests_compare_agree(
    loaded_of: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The comparison is right about what is known to be right; when it is done the model is as before."""
    for name in tiny.ARCHITECTURES:
        require_agreement(loaded_of(name))
        assert loaded_of(name).model.config._attn_implementation == "pagedkv"


@pytest.mark.parametrize(
    "change", [{"scale": 0.2}, {"sliding_window": 12}, {"soft_cap": 1.0}, {"sinks": torch.ones(8)}]
)
def test_one_setting_that_is_wrong_in_one_layer(change: Any, loaded_of: Callable[[str], Any]) -> None:
    """What the kernels are told is compared, too."""
    loaded = loaded_of("llama")
    first, second = loaded.spec.attention
    wrong = replace(loaded, spec=replace(loaded.spec, attention=[first, replace(second, **change)]))
    with pytest.raises(UnsupportedModel, match="llama cannot be served"):
        require_agreement(wrong)


def test_numbers_that_are_none(loaded_of: Callable[[str], Any]) -> None:
    """NaN agrees with nothing."""
    loaded = loaded_of("llama")
    sinks = replace(loaded.spec.attention[0], sinks=torch.full((8,), torch.nan))
    wrong = replace(loaded, spec=replace(loaded.spec, attention=[sinks, sinks]))
    with pytest.raises(UnsupportedModel, match="nan% off"):
        require_agreement(wrong)
