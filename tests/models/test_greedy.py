"""Greedy output equals that of transformers' `generate`, token by token, however it is batched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from transformers import AutoModelForCausalLM

from pagedkv.config import SchedulerConfig
from pagedkv.models import load_model
from pagedkv.models.inputs import PackedInputs, pack
from tests.models import tiny
from tests.models.serving import BLOCK_SIZE, Serving, prompts, served

COUNT = 12
every_architecture = pytest.mark.parametrize("name", tiny.ARCHITECTURES)
Greedy = Callable[[str, list[int], int], list[int]]
Loaded = Callable[[str], Any]


@pytest.fixture
def expected(name: str, greedy_of: Greedy) -> list[list[int]]:
    """What each prompt is followed by; varied enough that a fault shows."""
    found = [greedy_of(name, prompt, COUNT) for prompt in prompts()]
    assert sum(len(set(tokens)) for tokens in found) > 40, "a model that repeats itself proves little"
    return found


@every_architecture
def test_whole_prompts(name: str, loaded_of: Loaded, expected: list[list[int]]) -> None:
    """Prompts in one piece, all in the first step."""
    assert served(loaded_of(name), prompts(), COUNT) == expected


@every_architecture
def test_chunks_beside_decodes(name: str, loaded_of: Loaded, expected: list[list[int]]) -> None:
    """Prompts in pieces, beside sequences that decode."""
    serving = Serving(loaded_of(name), scheduler_config=SchedulerConfig(max_batch_tokens=11))
    for i, prompt in enumerate(prompts()):
        serving.add(i, prompt, COUNT)
    tokens = serving.run()
    assert [tokens[i][0] for i in range(len(expected))] == expected
    assert any(len(step.decodes) and step.chunks for step in serving.steps)
    assert any(chunk.start and not chunk.samples for step in serving.steps for chunk in step.chunks)


@every_architecture
def test_preemption(name: str, loaded_of: Loaded, expected: list[list[int]]) -> None:
    """A pool so small that requests lose their blocks."""
    serving = Serving(loaded_of(name), num_blocks=14, scheduler_config=SchedulerConfig(max_batch_tokens=24))
    for i, prompt in enumerate(prompts()):
        serving.add(i, prompt, COUNT)
    tokens = serving.run()
    assert [tokens[i][0] for i in range(len(expected))] == expected
    assert sum(len(step.preempted) for step in serving.steps) > 0


@every_architecture
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_shared_prefixes(name: str, prefix_caching: bool, loaded_of: Loaded, greedy_of: Greedy) -> None:
    """Prompts that begin alike, with blocks of another request or without."""
    base = prompts((22,))[0]
    asked = [base, base[:9], [*base[:13], 7, 8], base, [*base, 9]]
    settings = {"prefix_caching": prefix_caching}
    serving = Serving(loaded_of(name), num_blocks=48, cache_settings=settings)
    for i, prompt in enumerate(asked):
        serving.add(i, prompt, COUNT)
        serving.step()  # so that the next one finds what this one has computed
    tokens = serving.run()
    assert [tokens[i][0] for i in range(len(asked))] == [greedy_of(name, each, COUNT) for each in asked]
    assert (serving.num_cached_tokens > 0) == prefix_caching


@every_architecture
@pytest.mark.parametrize("fork_mode", ["lazy", "eager", "full_blocks"])
def test_forks(name: str, fork_mode: str, loaded_of: Loaded, greedy_of: Greedy) -> None:
    """Three sequences that begin with the three likeliest tokens go on as if each had been asked alone."""
    serving = Serving(loaded_of(name), cache_settings={"fork_mode": fork_mode})
    asked = prompts((10, 7))
    for i, prompt in enumerate(asked):
        serving.add(i, prompt, COUNT, num_sequences=3)
    for i, sequences in serving.run().items():
        assert len({tokens[0] for tokens in sequences}) == 3
        for tokens in sequences:
            alone = greedy_of(name, [*asked[i], tokens[0]], COUNT)
            assert tokens == [tokens[0], *alone[: COUNT - 1]]
    assert any(step.copies for step in serving.steps) == (fork_mode != "full_blocks")


@every_architecture
def test_aborts(name: str, loaded_of: Loaded, expected: list[list[int]]) -> None:
    """Two requests are given up on the way; the others do not notice."""
    serving = Serving(loaded_of(name), scheduler_config=SchedulerConfig(max_batch_tokens=24))
    for i, prompt in enumerate(prompts()):
        serving.add(i, prompt, COUNT)
    for _ in range(4):
        serving.step()
    serving.scheduler.abort(1)
    serving.step()
    serving.scheduler.abort(3)
    tokens = serving.run()
    stay = [0, 2, 4, 5, 6]
    assert [tokens[i][0] for i in stay] == [expected[i] for i in stay]
    assert 1 not in tokens


def _stretched(inputs: PackedInputs) -> None:
    """Tokens stand twice as far apart."""
    inputs.positions.mul_(2)


def _misdirected(inputs: PackedInputs) -> None:
    """The first sequence that decodes has a block of the second one in place of its last full one."""
    if inputs.num_decodes > 1:
        tables, lengths = inputs.decodes.tables, inputs.decodes.lengths
        tables[0, (int(lengths[0]) - 1) // BLOCK_SIZE - 1] = tables[1, 0]


@every_architecture
@pytest.mark.parametrize("fault", [_stretched, _misdirected])
def test_negative_control(
    name: str,
    fault: Callable[[PackedInputs], None],
    loaded_of: Loaded,
    expected: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With wrong positions, or a wrong block, the comparison fails."""

    def wrong(*arguments: Any) -> PackedInputs:
        inputs = pack(*arguments)
        fault(inputs)
        return inputs

    monkeypatch.setattr("pagedkv.models.packed.pack", wrong)
    lengths = [1, 3]  # places of prompts that are longer than two blocks
    asked = [prompts()[i] for i in lengths]
    assert served(loaded_of(name), asked, COUNT) != [expected[i] for i in lengths]


@every_architecture
def test_negative_control_of_copies(
    name: str, loaded_of: Loaded, greedy_of: Greedy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its copies, a fork reads what was never written."""
    monkeypatch.setattr("pagedkv.models.packed.PackedModel.copy", lambda self, copies: None)
    prompt = prompts((10,))[0]
    serving = Serving(loaded_of(name), cache_settings={"fork_mode": "eager"})
    serving.add(0, prompt, COUNT, num_sequences=2)
    sequences = serving.run()[0]
    assert sequences != [[t[0], *greedy_of(name, [*prompt, t[0]], COUNT)[: COUNT - 1]] for t in sequences]


@every_architecture
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(name: str, dtype: torch.dtype, folder_of: Callable[[str], Path]) -> None:
    """Logits are as near to float32's as transformers' in 16 bits; tokens with a margin are equal."""
    loaded = load_model(folder_of(name), dtype=dtype, device="cpu")
    serving = Serving(loaded)
    for i, prompt in enumerate(prompts()):
        serving.add(i, prompt, COUNT)
    ours = serving.packed.forward(serving.scheduler.schedule())
    reference = AutoModelForCausalLM.from_pretrained(
        folder_of(name), dtype=dtype, attn_implementation="eager"
    )
    theirs, exact = _last_logits(reference), _last_logits(reference.float())
    allowed = 1.5 * (theirs - exact).abs().mean()
    assert (ours - exact).abs().mean() < allowed
    best = exact.topk(2).values
    clear = best[:, 0] - best[:, 1] > 2 * (ours - exact).abs().max()
    assert bool(clear.any())
    assert bool((ours.argmax(-1) == exact.argmax(-1))[clear].all())


@torch.inference_mode()
def _last_logits(model: Any) -> torch.Tensor:
    return torch.stack([model(torch.tensor([prompt])).logits[0, -1].float() for prompt in prompts()])
