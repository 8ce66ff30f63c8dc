"""What CUDA graphs of decodes need: sizes, padding, inputs that stay in their place."""

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch

from pagedkv.models.cuda_graphs import DecodeGraphs, batch_sizes
from pagedkv.models.inputs import idle
from tests.models.serving import Serving, prompts

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
COUNT = 12
CPU = torch.device("cpu")


def test_sizes() -> None:
    """Every batch has a size, and from 8 on no more than half of it is padding more than the batch itself."""
    assert batch_sizes(1) == [1]
    assert batch_sizes(40) == [1, 2, 4, 8, 12, 16, 24, 32, 40]
    sizes = batch_sizes(256)
    assert sizes[-1] == 256
    for batch in range(8, 257):
        assert min(size for size in sizes if size >= batch) <= 1.5 * batch


def _serving(loaded: Any, *, static: bool, max_batch: int = 8) -> Serving:
    serving = Serving(loaded)
    if static:
        serving.packed.graphs = DecodeGraphs(
            serving.packed.run, loaded.spec.device, max_batch=max_batch, max_blocks=20
        )
    for i, prompt in enumerate(prompts()):
        serving.add(i, prompt, COUNT - i)  # so that the batch shrinks
    return serving


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
@pytest.mark.parametrize("max_batch", [8, 3])
def test_padded_batches(name: str, max_batch: int, loaded_of: Callable[[str], Any]) -> None:
    """Padded to fixed sizes in fixed memory, or as they come if too large: the tokens are the same."""
    expected = _serving(loaded_of(name), static=False).run()
    serving = _serving(loaded_of(name), static=True, max_batch=max_batch)
    assert serving.run() == expected
    assert {len(step.decodes) for step in serving.steps} >= {1, 2, 3, 7}


def test_padding_of_an_earlier_batch_is_forgotten(loaded_of: Callable[[str], Any]) -> None:
    """A row that the last batch used, and this one does not, neither writes nor reads."""
    seen = []

    def forward(inputs: Any) -> torch.Tensor:
        seen.append((inputs.slots.tolist(), inputs.decodes.lengths.tolist()))
        return torch.zeros(len(inputs.slots), 5)

    graphs = DecodeGraphs(forward, CPU, max_batch=4, max_blocks=2)
    full = idle(CPU, num_decodes=4, max_blocks=2)
    full.slots.copy_(torch.tensor([4, 5, 6, 7]))
    full.decodes.lengths.fill_(3)
    part = idle(CPU, num_decodes=3, max_blocks=1)
    part.slots.copy_(torch.tensor([1, 2, 3]))
    part.decodes.lengths.fill_(2)
    assert graphs.run(full).shape == (4, 5)
    assert graphs.run(part).shape == (3, 5)
    assert seen == [([4, 5, 6, 7], [3] * 4), ([1, 2, 3, -1], [2, 2, 2, 0])]


def test_what_is_not_taken() -> None:
    """Chunks, too many sequences, and longer ones go through the model itself."""
    graphs = DecodeGraphs(lambda inputs: inputs.token_ids, CPU, max_batch=4, max_blocks=2)
    assert graphs.takes(idle(CPU, num_decodes=4, max_blocks=2))
    assert not graphs.takes(idle(CPU, num_decodes=5, max_blocks=2))
    assert not graphs.takes(idle(CPU, num_decodes=4, max_blocks=3))
    assert not graphs.takes(idle(CPU, num_decodes=2, num_chunk_tokens=3))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss"])
def test_warming_up_touches_no_block(name: str, loaded_of: Callable[[str], Any]) -> None:
    """What is compiled and recorded runs on rows of padding."""
    serving = Serving(loaded_of(name))
    serving.packed.warm_up(max_batch=5, cuda_graphs=False)
    assert all(bool(layer.isnan().all()) for layer in serving.packed.store.layers.tensors)


def test_a_model_that_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and nothing that was recorded before is kept."""
    graphs = DecodeGraphs(lambda inputs: inputs.token_ids, CPU, max_batch=4, max_blocks=2)

    def record(size: int) -> None:
        if size == 2:
            raise RuntimeError("operation not permitted when stream is capturing\nmore about it")
        graphs._graphs[size] = None

    monkeypatch.setattr(graphs, "_record", record)
    assert not graphs.capture()
    assert not graphs._graphs
    (message,) = caplog.messages
    assert message.endswith("recording one failed: operation not permitted when stream is capturing")


@needs_gpu
def test_recorded(folder_of: Callable[[str], Any]) -> None:
    """Recorded graphs give the tokens that the model itself gives."""
    from pagedkv.models import load_model
    from tests.models import tiny

    folder = tiny.save(tiny.config("qwen3", head_dim=64), folder_of("qwen3").with_name("qwen3_64"))
    loaded = load_model(folder, device="cuda")
    tokens = []
    for recorded in (False, True):
        serving = Serving(loaded, block_size=16)
        serving.packed.warm_up(max_batch=8, cuda_graphs=recorded)
        assert (serving.packed.graphs is not None) == recorded
        for i, prompt in enumerate(prompts()):
            serving.add(i, prompt, COUNT - i)
        tokens.append(serving.run())
    assert tokens[0] == tokens[1]
