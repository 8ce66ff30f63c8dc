"""Tokens per second of our engine beside transformers: its continuous batching, and `generate` one by one.

    python -m tests.measure.throughput [--model tiny] [--requests 32] [--tokens 128] [--alone 8] [--rounds 3]
                                       [--threads 1] [--json OUT] [--profile]

All take turns in one process, with the same random weights in fp32 and the same requests; greedy, no end
tokens. The peer's continuous batching keeps its manager between the rounds, and gets the settings that were
quickest on the beginning of all requests; one by one, only some requests are run, once. On a machine that
others use too, CPU time says more than the clock.
"""

import argparse
import cProfile
import gc
import io
import json
import logging
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
)
from transformers.utils.logging import disable_progress_bar

from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import Engine
from pagedkv.sampling.params import SamplingParams

__all__ = ["Batching", "Job", "OneByOne", "Ours", "Times", "main", "measure"]

_FILE_WIDTH = 130  # columns where the output is no terminal
_AIM = 2.0
_BLOCK_SIZE = 16
_TRIED_TOKENS = 16  # of each request, where settings are tried
_SHOWN = 30  # functions of a profile

_NO_ENDS: Mapping[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_MODELS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 257,
    },
    "100m": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "vocab_size": 32_000,
        "tie_word_embeddings": True,
    },
}

_CHOICES: Sequence[tuple[Mapping[str, Any], str]] = (
    ({"page_size": 256, "max_batch_tokens": 512}, "sdpa"),
    ({"page_size": 256, "max_batch_tokens": 2048}, "sdpa"),
    ({"page_size": 32, "max_batch_tokens": 512}, "sdpa"),
    ({"page_size": 256, "max_batch_tokens": 512}, "eager"),
)
"""Settings of the peer, and implementations of attention, of which it gets the quickest."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request.

    Attributes:
        prompt: its tokens.
        max_tokens: tokens to generate, no fewer.
    """

    prompt: list[int]
    max_tokens: int


@dataclass(slots=True)
class Times:
    """Seconds of each round of one side."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    outputs: list[list[int]] = field(default_factory=list)

    def take(self, run: Callable[[Sequence[Job]], list[list[int]]], jobs: Sequence[Job]) -> None:
        """Time a round."""
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        outputs = run(jobs)
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        self.outputs = outputs

    def rates(self) -> tuple[float, float]:
        """Tokens per second, and per second of CPU time, of the best rounds."""
        num_tokens = sum(map(len, self.outputs))
        return num_tokens / min(self.wall), num_tokens / min(self.cpu)


class Ours:
    """Our engine.

    Args:
        folder: of the model.
        jobs: what it is going to serve; the pool has room for all of them.
    """

    name: ClassVar[str] = "pagedkv"

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self._engine = Engine.from_pretrained(
            folder,
            cache=CacheConfig(num_blocks=_num_tokens(jobs) // _BLOCK_SIZE, block_size=_BLOCK_SIZE),
            dtype="float32",
            device="cpu",
            scheduler=SchedulerConfig(max_batch_tokens=1024, max_running=len(jobs)),
        )

    def run(self, jobs: Sequence[Job]) -> list[list[int]]:
        """All at once; the prefix cache knows nothing of an earlier round."""
        self._engine.scheduler.cache.reset_prefix_cache()
        params = [SamplingParams(max_tokens=job.max_tokens, temperature=0.0) for job in jobs]
        outputs = self._engine.generate([job.prompt for job in jobs], params)
        return [list(output.outputs[0].token_ids) for output in outputs]

    def close(self) -> None:
        """Give the pool back."""
        self._engine.close()


class Batching:
    """Continuous batching of transformers.

    Args:
        folder: of the model.
        jobs: what it is going to serve; the pool has room for all of them.
        settings: of `ContinuousBatchingConfig`.
        implementation: of attention.
    """

    name: ClassVar[str] = "transformers, continuous batching"

    def __init__(
        self, folder: Path, jobs: Sequence[Job], settings: Mapping[str, Any], implementation: str
    ) -> None:
        model = _load(folder, implementation)
        num_blocks = _num_tokens(jobs) // settings["page_size"] + len(jobs)
        config = ContinuousBatchingConfig(num_blocks=num_blocks, allow_block_sharing=False, **settings)
        self._manager = model.init_continuous_batching(
            generation_config=_greedy(), continuous_batching_config=config
        )
        self._manager.start()
        self._num_sent = 0

    def run(self, jobs: Sequence[Job]) -> list[list[int]]:
        """All at once."""
        manager, first = self._manager, self._num_sent
        names = [f"job {first + place}" for place in range(len(jobs))]
        self._num_sent += len(jobs)
        for name, job in zip(names, jobs, strict=True):
            manager.add_request(job.prompt, request_id=name, max_new_tokens=job.max_tokens)
        found: dict[str, list[int]] = {}
        while len(found) < len(jobs):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                found[result.request_id] = list(result.generated_tokens)
        return [found[name] for name in names]

    def close(self) -> None:
        """End its thread."""
        self._manager.stop(block=True)
        self._manager.destroy()


class OneByOne:
    """`generate` for one request after the other.

    Args:
        folder: of the model.
    """

    name: ClassVar[str] = "transformers, one by one"

    def __init__(self, folder: Path) -> None:
        self._model = _load(folder, "sdpa")

    def run(self, jobs: Sequence[Job]) -> list[list[int]]:
        """One after the other."""
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> list[int]:
        tokens = self._model.generate(
            torch.tensor([job.prompt]),
            attention_mask=torch.ones(1, len(job.prompt), dtype=torch.long),
            generation_config=_greedy(max_new_tokens=job.max_tokens),
        )
        answer: list[int] = tokens[0, len(job.prompt) :].tolist()
        return answer

    def close(self) -> None:
        """Nothing is held."""


def measure(
    folder: Path, jobs: Sequence[Job], num_alone: int, num_rounds: int, console: Console
) -> tuple[dict[str, Times], str]:
    """Run both batching sides in turns, then the first `num_alone` requests one by one.

    Returns:
        The times of each, and which settings the peer had.
    """
    settings, implementation = _best_settings(folder, jobs, console)
    sides: list[Ours | Batching] = [Ours(folder, jobs), Batching(folder, jobs, settings, implementation)]
    alone = OneByOne(folder)
    times = {name: Times() for name in (Ours.name, Batching.name, alone.name)}
    for side in sides:
        side.run(_short(jobs))
    for number in range(num_rounds):
        for side in sides if number % 2 else reversed(sides):
            with console.status(f"round {number + 1}: {side.name}"):
                times[side.name].take(side.run, jobs)
    with console.status(alone.name):
        times[alone.name].take(alone.run, jobs[:num_alone])
    for side in sides:
        side.close()
    return times, f"{implementation}, {settings}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print it, and write it where it says."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    logging.disable(logging.ERROR)  # what the peer says of a machine without a GPU
    disable_progress_bar()
    console = Console()
    console = console if console.is_terminal else Console(width=_FILE_WIDTH)
    report: dict[str, object] = {"threads": options.threads, "torch": torch.__version__}
    for name in [name for name in _MODELS if options.model in name]:
        with _saved(name) as folder:
            jobs = _jobs(options.requests, options.tokens, _MODELS[name]["vocab_size"])
            if options.profile:
                console.print(_profile(folder, jobs), highlight=False, markup=False)
                continue
            times, peer = measure(folder, jobs, options.alone, options.rounds, console)
        console.print(_table(name, jobs, times))
        console.print(f"Settings of the peer: {peer}", highlight=False)
        report[name] = {"peer": peer, "sides": {side: asdict(each) for side, each in times.items()}}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _profile(folder: Path, jobs: Sequence[Job]) -> str:
    """The functions that take most of our time."""
    side, profiler, text = Ours(folder, jobs), cProfile.Profile(), io.StringIO()
    side.run(_short(jobs))
    profiler.runcall(side.run, jobs)
    side.close()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)
    return text.getvalue()


def _parser() -> argparse.ArgumentParser:
    doc = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m tests.measure.throughput", description=doc)
    parser.add_argument(
        "--model", default="", metavar="TEXT", help=f"of {', '.join(_MODELS)}: those with this"
    )
    parser.add_argument("--requests", type=int, default=32, help="requests at once (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="to generate at most (default: %(default)s)")
    parser.add_argument("--alone", type=int, default=8, help="requests one by one (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both batching sides (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="say where our time goes; no comparison")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything to this file")
    return parser


def _jobs(num_requests: int, most_tokens: int, vocab_size: int) -> list[Job]:
    """Prompts of 16 to 256 tokens, and half as many to generate as asked for, or more."""
    rng = np.random.default_rng(7)
    lengths = rng.permutation(np.geomspace(16, 256, num_requests).astype(int)).tolist()
    return [
        Job(
            rng.integers(0, vocab_size, length).tolist(),
            int(rng.integers((most_tokens + 1) // 2, most_tokens + 1)),
        )
        for length in lengths
    ]


def _short(jobs: Sequence[Job]) -> list[Job]:
    return [Job(job.prompt, _TRIED_TOKENS) for job in jobs]


def _num_tokens(jobs: Sequence[Job]) -> int:
    """Slots that hold all of them, each in blocks of its own."""
    return sum(len(job.prompt) + job.max_tokens + 2 * _BLOCK_SIZE for job in jobs)


@contextmanager
def _saved(name: str) -> Iterator[Path]:
    """A random model on disk."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(**_MODELS[name], max_position_embeddings=1024, **_NO_ENDS)
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        del model
        yield Path(folder)


def _load(folder: Path, implementation: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=implementation
    ).eval()


def _greedy(**more: int) -> GenerationConfig:
    return GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, **more)


def _best_settings(folder: Path, jobs: Sequence[Job], console: Console) -> tuple[Mapping[str, Any], str]:
    """Of the peer, by the time that some requests take."""
    short, took = _short(jobs), []
    for settings, implementation in _CHOICES:
        with console.status(f"trying {implementation}, {settings}"):
            side, times = Batching(folder, jobs, settings, implementation), Times()
            for _ in range(2):
                times.take(side.run, short)
            side.close()
        took.append(min(times.wall))
    return _CHOICES[took.index(min(took))]


def _table(name: str, jobs: Sequence[Job], times: Mapping[str, Times]) -> Table:
    num_tokens, ours = sum(job.max_tokens for job in jobs), times[Ours.name]
    table = Table(title=f"{name}: {len(jobs)} requests, {num_tokens} tokens; best rounds; aim: {_AIM:g}x")
    table.add_column("side")
    for column in ("tokens/s", "tokens/CPU s", "ours, wall", "ours, CPU", "same tokens as ours"):
        table.add_column(column, justify="right", no_wrap=True)
    for side, each in times.items():
        per_s, per_cpu_s = each.rates()
        same = sum(a == b for a, b in zip(each.outputs, ours.outputs, strict=False))
        table.add_row(
            side,
            f"{per_s:,.0f}",
            f"{per_cpu_s:,.0f}",
            f"{ours.rates()[0] / per_s:.2f}x",
            f"{ours.rates()[1] / per_cpu_s:.2f}x",
            f"{same} of {len(each.outputs)}",
        )
    return table


if __name__ == "__main__":
    main()
