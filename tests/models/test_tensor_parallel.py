"""Two processes that share a model say what one says, and fail together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from pagedkv.engine import Engine
from pagedkv.errors import ConfigError
from tests.models import ranks_worker, tiny

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 200  # seconds, of a job that takes about ten
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {"num_key_value_heads": 4}),
    "wide": ("llama", {"vocab_size": 5003, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", {}),
    "gpt2": ("gpt2", {}),
    "phi3": ("phi3", {}),
    "odd": ("llama", {"num_key_value_heads": 1}),
}

Told = list[dict[str, Any]]
"""What each rank has said."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models."""
    folder = tmp_path_factory.mktemp("ranks")
    for name, (architecture, changes) in MODELS.items():
        tiny.save(tiny.config(architecture, **changes), folder / name)
    return folder


@pytest.fixture(scope="module")
def alone(base: Path) -> dict[str, Any]:
    """What this process says by itself."""
    return ranks_worker.serve(base)


@pytest.fixture(scope="module")
def told(base: Path) -> dict[str, Told]:
    """What two processes say, by job."""
    jobs = ("serve", "shapes", "swapped", "refusals")
    assert _torchrun(base, *jobs) == 0
    return {job: _read(base, job) for job in jobs}


def _torchrun(base: Path, *jobs: str) -> int:
    """Run two processes; their exit status."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*command, "-m", "tests.models.ranks_worker", str(base), ",".join(jobs)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )
    try:
        return process.wait(TIMEOUT)
    finally:
        process.terminate()  # torchrun then ends its workers, by force if need be
        process.wait()


def _read(base: Path, job: str) -> Told:
    return [json.loads((base / f"{job}.{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ranks_worker.MODELS)
def test_two_say_what_one_says(name: str, told: dict[str, Told], alone: dict[str, Any]) -> None:
    """Greedily, sampled and by beams: in chunks, with preemptions."""
    one, (first, second) = alone[name], (each[name] for each in told["serve"])
    for what in ("greedy", "samples", "beams", "logprobs"):
        assert first[what] == one[what], what
    assert second == first  # times and drawn seeds, too
    assert first["preemptions"] == one["preemptions"] > 0
    assert first["free"] == 14
    assert sum(len(set(tokens)) for tokens in one["greedy"]) > 20, "a model that repeats itself proves little"


def test_each_has_half(told: dict[str, Told], base: Path) -> None:
    """Half of the heads, so half of the KV; logits are whole."""
    from pagedkv.models import load_model

    whole = load_model(base / "qwen2", device="cpu").spec
    for each in told["shapes"]:
        assert each["heads"] == [whole.num_query_heads // 2, whole.num_kv_heads // 2] == [4, 2]
        assert each["vocab_size"] == whole.vocab_size
        assert each["token_bytes"] * 2 == whole.token_bytes
        assert each["num_parameters"] < whole.num_parameters


def test_swapped_heads_show(told: dict[str, Told], alone: dict[str, Any]) -> None:
    """KV heads the wrong way round on one rank change what comes out."""
    first, second = told["swapped"]
    assert first == second
    assert [tokens for (tokens,) in first["greedy"]] != alone["qwen2"]["greedy"]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("no plan", ("UnsupportedModel", "gpt2", "2 processes")),
        ("whole heads", ("UnsupportedModel", "phi3", "8 query heads", "2 KV heads")),
        ("odd heads", ("ConfigError", "1 KV heads", "2 processes")),
        ("size", ("ConfigError", "is 3", "is 2")),
    ],
)
def test_all_refuse(what: str, expected: tuple[str, ...], told: dict[str, Told]) -> None:
    """Every rank says the same, with the numbers."""
    first, second = (each[what] for each in told["refusals"])
    assert first == second
    assert all(each in first for each in expected), first


def test_one_may_serve_alone(told: dict[str, Told], alone: dict[str, Any]) -> None:
    """A rank may serve alone beside the other."""
    for each in told["refusals"]:
        assert [tokens for (tokens,) in each["alone"]] == alone["llama"]["greedy"]


def test_a_lost_rank_ends_all(base: Path) -> None:
    """A forward that fails on one rank: it cannot go on, and with its end all end."""
    assert _torchrun(base, "fault") != 0
    said = json.loads((base / "fault.1.json").read_text())
    assert said["raised"] == "a cable was pulled"
    assert said["again"].startswith("InvariantError: rank 1 of 2 is out of step")
    assert "a cable was pulled" in said["again"]


@pytest.mark.parametrize(
    ("size", "said"), [(2, "is 2, .* is 1"), (0, "is 0"), (True, "is True"), ("2", "is '2'")]
)
def test_sizes_that_cannot_be(size: Any, said: str, base: Path) -> None:
    """More processes than there are, or no number of them."""
    with pytest.raises(ConfigError, match=f"tensor_parallel_size {said}"):
        Engine.from_pretrained(base / "llama", device="cpu", tensor_parallel_size=size)
