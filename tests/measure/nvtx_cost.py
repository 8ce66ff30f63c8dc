"""What NVTX ranges cost a decode step while no profiler listens: engines with them, and the same without.

    python -m tests.measure.nvtx_cost [--batch 64] [--steps 20] [--rounds 60]

Three engines of each kind take turns, on the same requests: with ranges, with ranges again (that is the
noise), and with empty context managers in their place. "with / without" is the median over rounds of CPU time
with ranges divided by that without; the last column is what the step's ranges take by themselves. "model" is
a tiny Llama, one layer of which takes far less than a real one's; "simulated" computes nothing, so that its
steps are bookkeeping alone.
"""

import argparse
import tempfile
import timeit
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, SchedulerConfig
from pagedkv.engine import Engine
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler import Scheduler
from pagedkv.simulate import CostModel, SimulatedExecutor
from pagedkv.tracing import nvtx_range
from tests.measure.race import Work, race

__all__ = ["main"]

_USERS = ("pagedkv.engine.core", "pagedkv.models.executor", "pagedkv.models.packed")
_NUM_RANGES = {"simulated": 5, "model": 8}  # of a decode step: docs/tracing.md
_PROMPT_TOKENS = 32
_BLOCK_SIZE = 16
MakeEngine = Callable[[int, int], Engine]


def simulated(num_blocks: int, batch: int) -> Engine:
    """An engine that computes nothing."""
    clock = VirtualClock()
    scheduler = Scheduler(
        BlockManager(CacheConfig(num_blocks=num_blocks, block_size=_BLOCK_SIZE)),
        SchedulerConfig(max_running=batch),
        clock,
    )
    cost = CostModel("h200", "tiny", block_size=_BLOCK_SIZE)
    return Engine(SimulatedExecutor(clock, cost), scheduler, seed=0)


def tiny_model(folder: Path) -> MakeEngine:
    """Engines of a tiny Llama."""
    import torch

    from tests.models import tiny

    torch.set_num_threads(1)
    tiny.save(tiny.config("llama"), folder)

    def make(num_blocks: int, batch: int) -> Engine:
        return Engine.from_pretrained(
            folder,
            cache=CacheConfig(num_blocks=num_blocks, block_size=_BLOCK_SIZE),
            scheduler=SchedulerConfig(max_running=batch),
            device="cpu",
            seed=0,
        )

    return make


def decoding(make: MakeEngine, *, batch: int, num_steps: int, with_ranges: bool) -> Engine:
    """An engine in which so many sequences can decode for so many steps."""
    with ExitStack() as patches:
        if not with_ranges:
            for module in _USERS:
                patches.enter_context(patch(f"{module}.nvtx_range", lambda _message: nullcontext()))
        length = _PROMPT_TOKENS + num_steps + 8
        return make(batch * (length // _BLOCK_SIZE + 2), batch)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="in a round")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    table = Table(
        "engine", "with, us/step", "without", "with / with again", "with / without", "ranges alone / step"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("simulated", simulated), ("model", tiny_model(Path(folder) / "llama"))):
            cells, step_us = _row(make, arguments.batch, arguments.steps, arguments.rounds)
            table.add_row(name, *cells, f"{_NUM_RANGES[name] * _range_us() / step_us:.4f}")
    Console().print(table)


def _range_us() -> float:
    """What entering and leaving a range takes, at best."""
    span = nvtx_range("cost")
    return min(timeit.repeat("with span: pass", globals={"span": span}, number=10_000, repeat=20)) * 100


def _row(make: MakeEngine, batch: int, num_steps: int, num_rounds: int) -> tuple[tuple[str, ...], float]:
    works: dict[str, Work] = {}
    for name, with_ranges in (("with", True), ("again", True), ("without", False)):
        engine = decoding(make, batch=batch, num_steps=num_steps, with_ranges=with_ranges)
        works[name] = _Steps(engine, batch, num_steps)
    found = race(works, num_rounds, lambda: None)
    ours, again, without = found["with"], found["again"], found["without"]
    cells = (
        f"{ours.best_us:.1f}",
        f"{without.best_us:.1f}",
        f"{ours.paired_ratio(again):.4f}",
        f"{ours.paired_ratio(without):.4f}",
    )
    return cells, ours.best_us


class _Steps(Work):
    """Some decode steps of an engine."""

    def __init__(self, engine: Engine, batch: int, num_steps: int) -> None:
        self.num_ops, self._engine, self._batch = num_steps, engine, batch

    def prepare(self) -> None:
        """Let prompts be computed; all sequences decode then."""
        params = SamplingParams(max_tokens=self.num_ops + 8, temperature=0.0, ignore_eos=True)
        for number in range(self._batch):
            self._engine.add_request([number % 50 + 1] * _PROMPT_TOKENS, params)
        for _ in range(4):
            self._engine.step()

    def run(self) -> None:
        """Take them."""
        for _ in range(self.num_ops):
            self._engine.step()

    def finish(self) -> None:
        """Abort what is live."""
        for request_id in list(self._engine.scheduler.requests):
            self._engine.abort(request_id)


if __name__ == "__main__":
    main()
