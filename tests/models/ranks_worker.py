"""What each process of a test of tensor parallelism does; run by torchrun, or alone.

    python -m tests.models.ranks_worker FOLDER JOB,JOB,...

FOLDER has the models, and takes what the process has to say: `JOB.RANK.json`.
"""

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from pagedkv import CacheConfig, SchedulerConfig
from pagedkv.cli.app import main
from pagedkv.clock import VirtualClock
from pagedkv.engine import Engine
from pagedkv.errors import PagedKVError
from pagedkv.models import Ranks, load_model
from pagedkv.sampling.params import SamplingParams
from tests.models.serving import prompts

MODELS = ("qwen2", "wide", "gemma2")
COUNT = 10
RANK = int(os.environ.get("RANK", "0"))
GREEDY = SamplingParams(temperature=0.0, max_tokens=COUNT)


def engine(folder: Path, *, num_blocks: int = 14, **settings: Any) -> Engine:
    """An engine with chunks smaller than prompts, and a pool smaller than what they come to."""
    return Engine.from_pretrained(
        folder,
        device="cpu",
        cache=CacheConfig(num_blocks=num_blocks, block_size=4),
        scheduler=SchedulerConfig(max_batch_tokens=11, batch_merge_window_ms=5),
        clock=VirtualClock(RANK * 1_000_000_007),
        **settings,
    )


def tokens(made: Engine, params: SamplingParams, asked: list[list[int]]) -> list[list[list[int]]]:
    """What comes behind each prompt, in each of its sequences."""
    return [[list(each.token_ids) for each in one.outputs] for one in made.generate(asked, params)]


def serve(base: Path) -> dict[str, Any]:
    """All models in turn."""
    return {name: _served(base / name) for name in MODELS}


def _served(folder: Path) -> dict[str, Any]:
    short = prompts((5, 9), seed=2)
    with engine(folder) as made:
        greedy = made.generate(prompts(), GREEDY)
        return {
            "greedy": [list(each.outputs[0].token_ids) for each in greedy],
            "times": [each.metrics.finished_s for each in greedy],
            "preemptions": made.stats().num_preemptions,
            "samples": tokens(made, SamplingParams(n=3, seed=5, max_tokens=COUNT), short),
            "beams": tokens(made, SamplingParams(beam_width=3, temperature=0.0, max_tokens=COUNT), short),
            "logprobs": [
                [each.token_id for each in one.outputs[0].logprobs or ()]
                for one in made.generate(short, SamplingParams(temperature=0.0, max_tokens=3, logprobs=1))
            ],
            "drawn": tokens(made, SamplingParams(max_tokens=COUNT), short),
            "free": made.scheduler.cache.pool.num_free,
        }


def shapes(base: Path) -> dict[str, Any]:
    """What each rank holds of a model."""
    ranks = Ranks.start(None, "cpu")
    spec = load_model(base / "qwen2", device="cpu", ranks=ranks).spec
    return {
        "heads": [spec.num_query_heads, spec.num_kv_heads],
        "vocab_size": spec.vocab_size,
        "token_bytes": spec.token_bytes,
        "num_parameters": spec.num_parameters,
    }


def blocks(base: Path) -> dict[str, Any]:
    """Rank 0 has room for 21 blocks, rank 1 for 20."""
    with (
        patch("pagedkv.models.default_num_blocks", return_value=21 - RANK),
        Engine.from_pretrained(base / "qwen2", device="cpu") as made,
    ):
        return {"num_blocks": made.scheduler.cache.config.num_blocks}


def swapped(base: Path) -> dict[str, Any]:
    """Rank 1 has its two KV heads the wrong way round."""
    with engine(base / "qwen2") as made:
        layer = made._executor._own.packed.loaded.model.model.layers[0].self_attn  # type: ignore[attr-defined]
        if RANK == 1:
            for weight in (layer.k_proj.weight, layer.v_proj.weight, layer.k_proj.bias, layer.v_proj.bias):
                weight.copy_(weight.roll(len(weight) // 2, 0))
        return {"greedy": tokens(made, GREEDY, prompts())}


def refusals(base: Path) -> dict[str, Any]:
    """What cannot be shared, and whether the ranks still serve what can."""
    told: dict[str, Any] = {}
    told["no plan"] = _error(lambda: engine(base / "gpt2"))
    told["whole heads"] = _error(lambda: engine(base / "phi3"))
    told["odd heads"] = _error(lambda: engine(base / "odd"))
    told["size"] = _error(lambda: engine(base / "qwen2", tensor_parallel_size=3))
    told["folder"] = _error(lambda: engine(base / ("nowhere" if RANK else "qwen2")))
    told["memory"] = _error(lambda: engine(base / "qwen2", num_blocks=2**31 - 1 if RANK else 64))
    with engine(base / "qwen2", tensor_parallel_size=1) as alone:
        told["alone"] = tokens(alone, GREEDY, prompts())
    return told


def faults(base: Path) -> dict[str, Any]:
    """What is raised while ranks serve, and what they serve behind it."""
    told: dict[str, Any] = {}
    with engine(base / "qwen2") as made:
        head = made._executor._own.packed.loaded.model.lm_head.weight  # type: ignore[attr-defined]
        kept = head.clone()
        head.fill_(torch.nan)
        told["no numbers"] = _error(lambda: tokens(made, GREEDY, prompts()))
        head.copy_(kept)
        told["afterwards"] = tokens(made, GREEDY, prompts())
        if RANK == 0:
            made.snapshot()  # asks nobody
        made.add_request([4, 5, 6], GREEDY)
        told["different"] = _error(lambda: made.add_request([4, 5, 6 + RANK], GREEDY))
        told["behind it"] = _error(made.step)
    with engine(base / "qwen2") as made:
        call = made.step if RANK else lambda: made.add_request([4, 5, 6], GREEDY)
        told["one adds"] = _error(call)
        told["out of step"] = _error(made.step)
    with engine(base / "qwen2") as made:
        told["anew"] = tokens(made, GREEDY, prompts())
    return told


def printed(base: Path) -> dict[str, Any]:
    """What the command line prints."""
    words = [
        "--token-ids",
        "5,6,7",
        "--temperature",
        "0",
        "--max-tokens",
        "4",
        "--num-blocks",
        "8",
        "--device",
        "cpu",
    ]
    with redirect_stdout(io.StringIO()) as out:
        status = main(["generate", "--model", str(base / "qwen2"), *words])
    return {"status": status, "out": out.getvalue()}


def _error(call: Callable[[], object]) -> str:
    try:
        return f"nothing was raised, but {call()!r:.80} returned"
    except PagedKVError as error:
        return f"{type(error).__name__}: {error}"


def lost(base: Path) -> dict[str, Any]:
    """A forward fails on rank 1 alone, whose caller tries to go on; then it ends."""
    made = engine(base / "qwen2")
    made.add_request([4, 5, 6], GREEDY)
    if RANK == 1:
        made._executor._own.packed.forward = _fail  # type: ignore[attr-defined]
    told: dict[str, Any] = {}
    try:
        while made.has_unfinished:
            made.run_step()
    except OSError as error:
        told = {"raised": str(error), "again": _error(made.step)}
    _write(base, "lost", told)
    raise SystemExit(3)


def _fail(_: object) -> object:
    raise OSError("a cable was pulled")


def _write(base: Path, job: str, told: Mapping[str, Any]) -> None:
    (base / f"{job}.{RANK}.json").write_text(json.dumps(told))


JOBS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    job.__name__: job for job in (serve, shapes, blocks, swapped, refusals, faults, printed, lost)
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[2].split(","):
        _write(Path(sys.argv[1]), name, JOBS[name](Path(sys.argv[1])))
