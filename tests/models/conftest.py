"""Tiny models, saved once for all tests, and loaded by the real loader."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """On tensors as small as these, the threads of torch only wait."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing asks the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder that a tiny model of an architecture was saved to."""
    from tests.models import tiny

    base = tmp_path_factory.mktemp("models")

    def find(name: str) -> Path:
        folder = base / name
        return folder if folder.exists() else tiny.save(tiny.config(name), folder)

    return find


@pytest.fixture(scope="session")
def loaded_of(folder_of: Callable[[str], Path]) -> Callable[[str], Any]:
    """The tiny model of an architecture, loaded."""
    from pagedkv.models import load_model

    found: dict[str, Any] = {}

    def find(name: str) -> Any:
        if name not in found:
            found[name] = load_model(folder_of(name), device="cpu")
        return found[name]

    return find


@pytest.fixture(scope="session")
def greedy_of(folder_of: Callable[[str], Path]) -> Callable[..., list[int]]:
    """What `generate` of transformers, on a model of its own, says greedily behind a prompt."""
    import torch
    from transformers import AutoModelForCausalLM

    models: dict[str, Any] = {}
    known: dict[tuple[str, tuple[int, ...], int], list[int]] = {}

    def find(name: str, prompt: list[int], count: int) -> list[int]:
        if name not in models:
            models[name] = AutoModelForCausalLM.from_pretrained(folder_of(name), attn_implementation="eager")
        key = (name, tuple(prompt), count)
        if key not in known:
            out = models[name].generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                max_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
            known[key] = out[0, len(prompt) :].tolist()
        return known[key]

    return find
