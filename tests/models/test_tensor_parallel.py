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
TIMEOUT = 120  # seconds, of what takes about fifteen
JOBS = ("serve", "shapes", "blocks", "swapped", "refusals", "faults", "printed", "lost")
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
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
    """What two processes say, by job. In the last of them one fails."""
    status, words = _torchrun(base)
    assert status != 0
    try:
        return {
            job: [json.loads((base / f"{job}.{rank}.json").read_text()) for rank in range(2)]
            for job in JOBS[:-1]
        }
    except FileNotFoundError as error:
        pytest.fail(f"{error}; the processes said:\n{words}")


def _torchrun(base: Path) -> tuple[int, str]:
    """Run two processes; their exit status, and what they wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = base / "words.txt"
    with words.open("w") as out:
        process = subprocess.Popen(
            [*command, "-m", "tests.models.ranks_worker", str(base), ",".join(JOBS)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait(TIMEOUT)
        finally:
            process.terminate()  # torchrun then ends its workers, by force if need be
            process.wait()
    return status, words.read_text()


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


def test_the_smallest_pool_counts(told: dict[str, Told]) -> None:
    """Nobody has said how many blocks: as many as every rank has room for."""
    assert [each["num_blocks"] for each in told["blocks"]] == [20, 20]


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
        ("no numbers", ("InvalidLogits", "no finite maximum")),
        ("different", ("InvariantError", "ranks 1", "rank 0", "add a request")),
        ("behind it", ("InvariantError", "ranks 1", "schedule a step")),
    ],
)
def test_all_refuse(what: str, expected: tuple[str, ...], told: dict[str, Told]) -> None:
    """Every rank says the same, with the numbers."""
    job = "refusals" if what in told["refusals"][0] else "faults"
    first, second = (each[what] for each in told[job])
    assert first == second
    assert all(each in first for each in expected), first


@pytest.mark.parametrize(
    ("what", "mine", "others"),
    [
        ("memory", "PoolTooLarge: 2147483647 blocks", "in making room for the blocks: PoolTooLarge"),
        ("folder", "ModelNotFound: there is no folder", "in loading the model: ModelNotFound"),
    ],
)
def test_what_one_cannot_none_does(what: str, mine: str, others: str, told: dict[str, Told]) -> None:
    """Rank 1 has no memory for the blocks, or no model: the other hears of it."""
    first, second = (each[what] for each in told["refusals"])
    assert first.startswith(f"ModelError: rank 1 of 2 failed {others}")
    assert second.startswith(mine)


def test_other_calls_are_noticed(told: dict[str, Told]) -> None:
    """One rank steps where the other adds a request: both stop, and for good."""
    first, second = told["faults"]
    assert first["one adds"].startswith("InvariantError: rank 0 of 2 is out of step")
    assert "since it was to add a request, and ranks 1 something else" in first["one adds"]
    assert "since it was to schedule a step, and ranks 0 something else" in second["one adds"]
    for each in told["faults"]:
        assert each["out of step"] == each["one adds"]


def test_errors_are_survived(told: dict[str, Told], alone: dict[str, Any]) -> None:
    """Behind logits that were no numbers the engine goes on; behind other errors a new one does."""
    for each in told["faults"]:
        assert [tokens for (tokens,) in each["afterwards"]] == alone["qwen2"]["greedy"]
        assert each["anew"] == each["afterwards"]


def test_one_prints(told: dict[str, Told]) -> None:
    """`pagedkv generate` prints on rank 0."""
    first, second = told["printed"]
    assert (first["status"], second["status"]) == (0, 0)
    assert len(first["out"].split()) >= 4
    assert second["out"] == ""


def test_one_may_serve_alone(told: dict[str, Told], alone: dict[str, Any]) -> None:
    """A rank may serve alone beside the other."""
    for each in told["refusals"]:
        assert [tokens for (tokens,) in each["alone"]] == alone["qwen2"]["greedy"]


def test_a_lost_rank_ends_all(told: dict[str, Told], base: Path) -> None:
    """A forward that fails on one rank: it cannot go on, and with its end all end."""
    assert told
    said = json.loads((base / "lost.1.json").read_text())
    assert said["raised"] == "a cable was pulled"
    assert said["again"].startswith("InvariantError: rank 1 of 2 is out of step")
    assert "a cable was pulled" in said["again"]
    assert not (base / "lost.0.json").exists(), "rank 0 got to the end"


@pytest.mark.parametrize(
    ("size", "said"), [(2, "is 2, .* is 1"), (0, "is 0"), (True, "is True"), ("2", "is '2'")]
)
def test_sizes_that_cannot_be(size: Any, said: str, base: Path) -> None:
    """More processes than there are, or no number of them."""
    with pytest.raises(ConfigError, match=f"tensor_parallel_size {said}"):
        Engine.from_pretrained(base / "qwen2", device="cpu", tensor_parallel_size=size)
