"""What `Engine.from_pretrained` makes of its settings."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import Engine
from pagedkv.errors import ConfigError, ModelNotFound, PoolTooLarge, RequestRefused
from pagedkv.sampling.params import SamplingParams
from tests.engine.pretrained.conftest import prompts

FolderOf = Callable[[str], Path]
GREEDY = SamplingParams(max_tokens=6, temperature=0.0)


def test_the_usual_settings_serve(folder_of: FolderOf, greedy_of: Callable[..., list[int]]) -> None:
    """Without any: as many blocks of 16 as sequences of the longest length can fill, and a real clock."""
    with Engine.from_pretrained(folder_of("llama"), device="cpu") as engine:
        prompt = prompts((20,))[0]
        output = engine.generate([prompt], GREEDY)[0]

        assert list(output.outputs[0].token_ids) == greedy_of("llama", prompt, 6)
        assert engine.scheduler.cache.config == CacheConfig(num_blocks=256 // 16 * 256, block_size=16)
        assert output.metrics.finished_s is not None
        assert output.metrics.finished_s > output.metrics.arrival_s
        assert output.metrics.time_to_first_token_s is not None


def test_a_smaller_length(folder_of: FolderOf) -> None:
    """It bounds prompts and outputs, and the pool with them."""
    settings = SchedulerConfig(max_running=2)
    engine = Engine.from_pretrained(folder_of("llama"), device="cpu", max_model_len=32, scheduler=settings)
    assert engine.scheduler.cache.config.num_blocks == 4
    with pytest.raises(RequestRefused, match="the prompt has 32 tokens, and the model takes 32"):
        engine.add_request([1] * 32)
    out = engine.generate([[1] * 30], SamplingParams(max_tokens=None, temperature=0.0))[0].outputs[0]
    assert (len(out.token_ids), out.finish_reason) == (2, "length")


def test_engines_of_one_seed_draw_the_same(folder_of: FolderOf) -> None:
    """Requests without a seed of their own repeat with the engine's."""
    params = SamplingParams(max_tokens=8)
    said = []
    for seed in (3, 3, 4):
        engine = Engine.from_pretrained(folder_of("llama"), device="cpu", seed=seed)
        said.append([list(each.outputs[0].token_ids) for each in engine.generate([[5, 6]] * 2, params)])

    assert said[0] == said[1] != said[2]
    assert said[0][0] != said[0][1]


def test_what_cannot_be_loaded(folder_of: FolderOf, tmp_path: Path) -> None:
    """Pools that do not fit say how many blocks would, before their bookkeeping is made."""
    folder = folder_of("llama")
    with pytest.raises(PoolTooLarge, match="blocks would fit") as raised:
        Engine.from_pretrained(folder, device="cpu", cache=CacheConfig(num_blocks=2**31 - 1))
    assert 0 < raised.value.num_fitting < 2**31 - 1
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        Engine.from_pretrained(tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="dtype is 'int3'"):
        Engine.from_pretrained(folder, device="cpu", dtype="int3")
