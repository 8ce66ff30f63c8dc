"""Folders that have no model in them, or not all of one; settings that cannot be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file

from pagedkv.errors import ConfigError, ModelError, ModelNotFound
from pagedkv.models import load_model
from tests.models import tiny

FolderOf = Callable[[str], Path]
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(folder_of: FolderOf, tmp_path: Path) -> Path:
    """A saved llama, to be spoiled."""
    return Path(shutil.copytree(folder_of("llama"), tmp_path / "llama"))


def _rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def test_missing_weights_are_named(folder: Path) -> None:
    """No weight is made up."""
    name = "model.layers.1.self_attn.k_proj.weight"
    _rewrite(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(ModelNotFound, match=f"lacks 1 weights that LlamaForCausalLM has: {name}"):
        load_model(folder, device="cpu")


def test_weights_of_another_shape(folder: Path) -> None:
    """Those of another model are not taken."""

    def cut(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.norm.weight"] = tensors["model.norm.weight"][:32].clone()

    _rewrite(folder, cut)
    with pytest.raises(ModelError, match=r"model\.norm\.weight is \[32\], and .* \[64\] there"):
        load_model(folder, device="cpu")


def test_weights_that_are_cut_short(folder: Path) -> None:
    """A download that broke off."""
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="its weights cannot be loaded"):
        load_model(folder, device="cpu")


def test_unused_weights_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They do no harm, and may mean that this is another model."""
    _rewrite(folder, lambda tensors: tensors.update(extra=torch.zeros(3)))
    load_model(folder, device="cpu")
    assert "has 1 weights that are not used: extra" in caplog.text


def test_no_weights(folder: Path) -> None:
    """A folder with a configuration alone."""
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelNotFound, match=r"has a config\.json and no weights"):
        load_model(folder, device="cpu")
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelNotFound, match=r"it has pytorch_model\.bin: save the model again"):
        load_model(folder, device="cpu")


def test_no_configuration(folder: Path) -> None:
    """A folder with weights alone, and an empty one."""
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("text", ["{", '{"model_type": "nonesuch"}', "{}"])
def test_a_configuration_that_cannot_be_read(folder: Path, text: str) -> None:
    """It is there, and is blamed."""
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"cannot read its config\.json"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where/at/all", "~/nowhere", ""])
def test_no_folder(name: str) -> None:
    """What looks like a path is not asked for on the Hub."""
    with pytest.raises(ModelNotFound, match="there is no folder"):
        load_model(name, device="cpu")


def test_a_name_that_the_hub_does_not_give() -> None:
    """Here it cannot be reached."""
    with pytest.raises(ModelNotFound, match="there is no folder 'some/model', and the Hub gave no model"):
        load_model("some/model", device="cpu")


def test_a_file(folder: Path) -> None:
    """The folder is asked for."""
    with pytest.raises(ModelNotFound, match="is a file; give the folder"):
        load_model(folder / WEIGHTS, device="cpu")


def test_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is it."""
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_model("~/llama", device="cpu").spec.num_layers == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"dtype": torch.float64}, "dtype is torch.float64"),
        ({"device": "abacus"}, "device is 'abacus'"),
        ({"device": "meta"}, "kernels for cpu and cuda only"),
        ({"device": "cuda:99"}, "this machine has"),
        ({"max_model_len": 0}, "max_model_len is 0"),
        ({"max_model_len": 257}, "max_model_len is 257, and the model has positions for 256"),
    ],
)
def test_settings_that_cannot_be(folder_of: FolderOf, settings: dict[str, Any], message: str) -> None:
    """The message has what was asked for, and what there is."""
    with pytest.raises(ConfigError, match=message):
        load_model(folder_of("llama"), **{"device": "cpu", **settings})


def test_what_a_model_is(folder_of: FolderOf) -> None:
    """The numbers that caches and schedulers ask for."""
    loaded = load_model(folder_of("qwen3"), device="cpu", dtype="bfloat16", max_model_len=100)
    spec = loaded.spec
    assert (spec.num_layers, spec.num_query_heads, spec.num_kv_heads, spec.head_dim) == (2, 8, 2, 16)
    assert (spec.dtype, spec.vocab_size, loaded.max_model_len) == (torch.bfloat16, tiny.VOCAB_SIZE, 100)
    assert spec.token_bytes == 2 * 2 * 2 * 16 * 2
    assert spec.weight_bytes == 2 * spec.num_parameters
    assert loaded.tokenizer is None
    assert loaded.end_token_ids == ()


@pytest.mark.parametrize(("ends", "expected"), [(7, (7,)), ([7, 9], (7, 9))])
def test_end_tokens(folder: Path, ends: Any, expected: tuple[int, ...]) -> None:
    """As the generation settings say."""
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    assert load_model(folder, device="cpu").end_token_ids == expected


def test_a_tokenizer(folder: Path) -> None:
    """One that is there is loaded."""
    tiny.save_tokenizer(folder)
    tokenizer = load_model(folder, device="cpu").tokenizer
    assert tokenizer.decode(tokenizer.encode("grüße")) == "grüße"
