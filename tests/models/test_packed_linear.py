"""Packed weights give what the plain ones give; where they cannot be had, nothing has changed."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from torch import nn

from pagedkv import BlockManager, CacheConfig
from pagedkv.models import PackedLinears, TorchExecutor, load_model, packed_linear
from tests.models import tiny
from tests.models.serving import prompts, served

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def can_pack() -> None:
    """Only where torch has the operators."""
    if not packed_linear._dtypes():
        pytest.skip("torch cannot pack weights here")


def _layer(dtype: torch.dtype = torch.float32, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(48, 80, bias=bias, dtype=dtype).requires_grad_(False)


def _is_packed(layer: nn.Module) -> bool:
    return "forward" in vars(layer)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1,), (32,), (0,), (1, 0), (1, 7), ()])
def test_outputs(dtype: torch.dtype, bias: bool, shape: tuple[int, ...]) -> None:
    """Those of the layer, for any number of rows."""
    if dtype not in packed_linear._dtypes():
        pytest.skip(f"this CPU has no {dtype}")
    layer = _layer(dtype, bias=bias)
    rows = torch.randn(*shape, 48, dtype=dtype)
    expected = layer(rows)
    linears = PackedLinears(layer, least=1)
    assert len(linears) == 1
    assert _is_packed(layer)
    torch.testing.assert_close(layer(rows), expected)
    torch.testing.assert_close(layer(input=rows), expected)
    linears.release()
    assert not _is_packed(layer)
    assert torch.equal(layer(rows), expected)


def test_the_copy_is_what_multiplies() -> None:
    """A weight that changes meanwhile is seen when the layer is released."""
    layer, rows = _layer(bias=False), torch.randn(2, 48)
    linears = PackedLinears(layer, least=1)
    assert linears.num_bytes == 48 * 80 * 4
    layer.weight.zero_()
    assert layer(rows).any()
    linears.release()
    linears.release()
    assert not layer(rows).any()
    assert (len(linears), linears.num_bytes) == (0, 0)


def test_only_plain_large_layers() -> None:
    """Subclasses, small ones, other dtypes, and layers that others have changed stay as they are."""
    subclass = type("Other", (nn.Linear,), {})(48, 80)
    small, double, changed = nn.Linear(47, 80), _layer(torch.float64), _layer()
    changed.forward = lambda rows: rows  # type: ignore[method-assign]
    model = nn.ModuleList([subclass, small, double, changed, _layer()])
    linears = PackedLinears(model, least=48 * 80)
    assert [_is_packed(layer) for layer in model] == [False, False, False, True, True]
    assert len(linears) == 1
    linears.release()
    assert _is_packed(changed)


def _has_no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_reorder_linear_weight=operator))


def _has_no_mkldnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)


def _has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linear, "available_memory", lambda device: 48 * 80 * 4 + 9)


def _refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise RuntimeError("out of memory")

    operators = SimpleNamespace(_reorder_linear_weight=refuse, _linear_pointwise=refuse)
    monkeypatch.setattr(torch.ops, "mkldnn", operators)


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        (_has_no_operator, "no operators"),
        (_has_no_mkldnn, "no operators"),
        (_has_no_memory, "copies take"),
        (_refuses, "out of memory"),
    ],
)
def test_where_it_cannot_be(
    lacks: Callable[[pytest.MonkeyPatch], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The layer stays as it is, and the log says why."""
    layer, rows = _layer(), torch.randn(2, 48)
    expected = layer(rows)
    lacks(monkeypatch)
    with caplog.at_level(logging.INFO, "pagedkv"):
        linears = PackedLinears(layer, reserved=10, least=1)
    assert len(linears) == 0
    assert not _is_packed(layer)
    assert torch.equal(layer(rows), expected)
    assert "[Linear] weights stay unpacked: " in caplog.text
    assert words in caplog.text


def test_memory_that_suffices_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """And memory that nobody knows of."""
    _has_no_memory(monkeypatch)
    assert len(PackedLinears(_layer(), reserved=9, least=1)) == 1
    monkeypatch.setattr(packed_linear, "available_memory", lambda device: None)
    assert len(PackedLinears(_layer(), reserved=9, least=1)) == 1


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    """The output matrix is packed, and is the embeddings' still."""
    folder = tiny.save(tiny.config("llama", tie_word_embeddings=True), tmp_path / "tied")
    loaded = load_model(folder, device="cpu")
    expected = served(loaded, prompts(), 12)
    linears = PackedLinears(loaded.model, least=1)
    assert _is_packed(loaded.model.lm_head)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert served(loaded, prompts(), 12) == expected
    linears.release()


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_greedy(
    name: str, loaded_of: Callable[[str], Any], greedy_of: Callable[[str, list[int], int], list[int]]
) -> None:
    """Token by token what transformers says, for every architecture; GPT-2 has one linear layer, its last."""
    loaded = loaded_of(name)
    linears = PackedLinears(loaded.model, least=1)
    try:
        assert len(linears) == 1 if name == "gpt2" else len(linears) > 1
        found = served(loaded, prompts(), 12)
    finally:
        linears.release()
    assert found == [greedy_of(name, prompt, 12) for prompt in prompts()]


@pytest.mark.parametrize("pack_linear", [False, True])
def test_executor(
    pack_linear: bool, loaded_of: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It packs if it is asked to, and the model is what it was when it is closed."""
    monkeypatch.setattr(PackedLinears.__init__, "__kwdefaults__", {"reserved": 0, "least": 1})
    loaded = loaded_of("llama")
    cache = BlockManager(CacheConfig(num_blocks=8, block_size=4))
    executor = TorchExecutor(loaded, cache, pack_linear=pack_linear)
    assert _is_packed(loaded.model.lm_head) == pack_linear
    executor.close()
    assert not any(map(_is_packed, loaded.model.modules()))
