"""What the scheduler costs for each step: `schedule` and `commit`, in CPU time, without executing anything.

    python -m tests.measure.scheduling [--batch 256] [--rounds 20] [--only decode] [--profile] [--json OUT]

A row is a workload that is run for some steps a round; the best round counts. --profile runs each workload
once more under cProfile and lists the functions that take most.
"""

import argparse
import cProfile
import io
import json
import pstats
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pagedkv.block_ids import Int32s
from pagedkv.block_manager import BlockManager
from pagedkv.clock import WallClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine.stats import StatsFold
from pagedkv.logs import CacheLog
from pagedkv.request import Request, TokenPrompt
from pagedkv.scheduler import ScheduledStep, Scheduler, StepResult
from pagedkv.stats import Counters
from tests.measure.race import Sample, Work, race

__all__ = ["Bookkeeping", "Steps", "Workload", "main", "workloads"]

_BLOCK_SIZE = 16
_NUM_STEPS = 64
_PROMPT_TOKENS = 200
_AIM_US = 150.0
_FILE_WIDTH = 150  # columns where the output is no terminal
_SHOWN = 16  # functions of a profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What runs during the steps that are timed.

    Attributes:
        batch_size: sequences that decode.
        joins: requests that come with every step, as many as leave.
        prompt_tokens: length of the prompts of those.
        num_samples: sequences of each request.
        prefix_caching: whether there is a prefix cache.
        sinks: make what is attached to the stream of events.
    """

    batch_size: int = 256
    joins: int = 0
    prompt_tokens: int = _PROMPT_TOKENS
    num_samples: int = 1
    prefix_caching: bool = True
    sinks: Sequence[Callable[[BlockManager], Callable[..., None]]] = ()

    @property
    def life(self) -> int:
        """Steps that a request decodes, if as many leave as come."""
        return self.batch_size // self.num_samples // self.joins if self.joins else 4 * _NUM_STEPS


@dataclass(slots=True)
class _Split:
    """CPU time of a workload's parts in its quickest round, in nanoseconds."""

    schedule: int = 0
    commit: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.schedule + self.commit


class Steps(Work):
    """`schedule` and `commit` of some steps.

    Args:
        workload: what runs.
    """

    num_ops = _NUM_STEPS

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.splits: list[_Split] = []
        self.sizes: list[int] = []

    def prepare(self) -> None:
        """Fill the batch; requests end at different times if others come."""
        workload = self._workload
        self._scheduler = _scheduler(workload)
        self._next_id = 0
        num_requests = workload.batch_size // workload.num_samples
        for place in range(num_requests):
            rest = 1 + place * workload.life // num_requests if workload.joins else workload.life
            self._add(_PROMPT_TOKENS + place % _BLOCK_SIZE, rest + 1)
        while self._scheduler.num_waiting:
            self._commit(self._scheduler.schedule())
        self._tokens = np.arange(2 * workload.batch_size, dtype=np.int32)

    def run(self) -> None:
        """The steps, each part on the clock; new requests come between them."""
        split, clock = _Split(), time.thread_time_ns
        scheduler, tokens = self._scheduler, self._tokens
        for _ in range(_NUM_STEPS):
            for _ in range(self._workload.joins):
                self._add(self._workload.prompt_tokens, self._workload.life)
            start = clock()
            step = scheduler.schedule()
            middle = clock()
            result = StepResult(token_ids=tokens[: step.num_sampled], branches=self._branches(step))
            again = clock()
            scheduler.commit(step, result)
            split.commit += clock() - again
            split.schedule += middle - start
            self.sizes.append(len(step.decodes))
        self.splits.append(split)

    def _add(self, num_tokens: int, max_tokens: int) -> None:
        prompt = TokenPrompt(self._prompt(num_tokens))
        asked = self._workload.num_samples
        self._scheduler.add(
            Request(request_id=self._next_id, prompt=prompt, max_tokens=max_tokens, num_sequences=asked)
        )
        self._next_id += 1

    def _prompt(self, num_tokens: int) -> Int32s:
        first = 1000 * self._next_id
        return np.arange(first, first + num_tokens, dtype=np.int32)

    def _branches(self, step: ScheduledStep) -> Mapping[int, Sequence[int]]:
        """Behind a prompt come the first tokens of all samples."""
        count = self._workload.num_samples
        ends = [chunk.sequence.seq_id for chunk in step.chunks if chunk.samples]
        return dict.fromkeys(ends, range(count)) if count > 1 else {}

    def _commit(self, step: ScheduledStep) -> None:
        tokens = np.zeros(step.num_sampled, np.int32)
        self._scheduler.commit(step, StepResult(token_ids=tokens, branches=self._branches(step)))


class Bookkeeping(Work):
    """What the cache does in a decode step, without a scheduler: a lower bound.

    Args:
        batch_size: sequences that decode.
    """

    num_ops = _NUM_STEPS

    def __init__(self, batch_size: int) -> None:
        self._seq_ids = list(range(batch_size))
        self._tokens = np.arange(batch_size, dtype=np.int32)

    def prepare(self) -> None:
        """Admit the batch."""
        self._cache = _cache(Workload(batch_size=len(self._seq_ids)))
        for seq_id in self._seq_ids:
            self._cache.admit(seq_id, range(seq_id * 1000, seq_id * 1000 + _PROMPT_TOKENS + seq_id % 16))

    def run(self) -> None:
        """A token for each, as a step in flight."""
        cache, seq_ids, tokens = self._cache, self._seq_ids, self._tokens
        for _ in range(_NUM_STEPS):
            cache.append_batch(seq_ids, tokens)
            cache.retire_step(cache.begin_step(seq_ids))


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table."""

    name: str
    sample: Sample
    split: _Split | None = None
    sizes: Sequence[int] = field(default=())

    def cells(self) -> list[str]:
        """As text."""
        parts = ["", ""]
        if self.split is not None:
            parts = [f"{part / _NUM_STEPS / 1e3:.1f}" for part in (self.split.schedule, self.split.commit)]
        mean = f"{np.mean(self.sizes):.0f}" if self.sizes else ""
        best = self.best_us
        return [self.name, mean, f"{best:.1f}", f"{self.sample.median_us:.1f}", *parts]

    @property
    def best_us(self) -> float:
        """Of a step; without the making of requests and results, where the parts are timed."""
        return self.sample.best_us if self.split is None else self.split.total / _NUM_STEPS / 1e3

    def as_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return {"name": self.name, "best_us": self.best_us, "median_us": self.sample.median_us}


def workloads(batch_size: int) -> dict[str, Workload]:
    """What is measured, by name."""
    fold = (lambda cache: StatsFold(cache.internal_fragmentation),)
    return {
        "decode only": Workload(batch_size=batch_size),
        "decode only, no prefix cache": Workload(batch_size=batch_size, prefix_caching=False),
        "decode, 1 joins and 1 leaves each step": Workload(batch_size=batch_size, joins=1),
        "decode, 4 join and 4 leave each step": Workload(batch_size=batch_size, joins=4),
        "decode, 64 requests of 4 samples": Workload(batch_size=batch_size, num_samples=4),
        "the same, 1 joins and 1 leaves": Workload(batch_size=batch_size, num_samples=4, joins=1),
        "decode only, counters attached": Workload(batch_size=batch_size, sinks=(lambda _: Counters(),)),
        "decode only, engine's stats attached": Workload(batch_size=batch_size, sinks=fold),
        "1 joins and 1 leaves, engine's stats": Workload(batch_size=batch_size, joins=1, sinks=fold),
        "decode only, log lines attached": Workload(batch_size=batch_size, sinks=(CacheLog,)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print it, and write it where it says."""
    options = _parser().parse_args(argv)
    console = Console()
    console = console if console.is_terminal else Console(width=_FILE_WIDTH)
    chosen = {name: each for name, each in workloads(options.batch).items() if options.only in name}
    rows = [_measure(name, each, options.rounds, console) for name, each in chosen.items()]
    floor = race({"floor": Bookkeeping(options.batch)}, options.rounds, lambda: None)["floor"]
    rows.append(_Row("append_batch + begin_step + retire_step", floor))
    console.print(_table(rows))
    if options.profile:
        for name, each in chosen.items():
            console.print(f"\n{name}, {_NUM_STEPS} steps:\n{_profile(each)}", highlight=False, markup=False)
    if options.json:
        report = {"aim_us": _AIM_US, "rows": [row.as_dict() for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    doc = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m tests.measure.scheduling", description=doc)
    parser.add_argument("--batch", type=int, default=256, help="running sequences (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each row (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains this")
    parser.add_argument("--profile", action="store_true", help="list the functions that take most")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything to this file")
    return parser


def _measure(name: str, workload: Workload, num_rounds: int, console: Console) -> _Row:
    steps = Steps(workload)
    with console.status(name):
        sample = race({name: steps}, num_rounds, lambda: None)[name]
    return _Row(name, sample, min(steps.splits, key=lambda split: split.total), steps.sizes)


def _table(rows: Sequence[_Row]) -> Table:
    table = Table(title=f"CPU microseconds for one step; aim: at most {_AIM_US:g}")
    table.add_column("workload", min_width=40)
    for column in ("sequences", "best", "median with requests", "schedule", "commit"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells())
    return table


def _profile(workload: Workload) -> str:
    steps, profiler, text = Steps(workload), cProfile.Profile(), io.StringIO()
    steps.prepare()
    profiler.runcall(steps.run)
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(_SHOWN)
    return text.getvalue()


def _scheduler(workload: Workload) -> Scheduler:
    cache = _cache(workload)
    for make in workload.sinks:
        cache.events.attach(make(cache))
    config = SchedulerConfig(max_running=2 * workload.batch_size, max_batch_tokens=8192)
    return Scheduler(cache, config, WallClock())


def _cache(workload: Workload) -> BlockManager:
    num_blocks = 4 * workload.batch_size * (_PROMPT_TOKENS + 4 * _NUM_STEPS) // _BLOCK_SIZE
    return BlockManager(
        CacheConfig(num_blocks=num_blocks, block_size=_BLOCK_SIZE, prefix_caching=workload.prefix_caching)
    )


if __name__ == "__main__":
    main()
