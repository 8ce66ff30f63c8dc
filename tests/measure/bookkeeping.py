"""Takes our numbers, and vLLM's in the same run.

    python -m tests.measure.bookkeeping                          ours alone
    python -m tests.measure.bookkeeping --peers --json OUT       beside vLLM, where it can be imported
    python -m tests.measure.bookkeeping --soak --only nothing    a million random operations, no table

PAGEDKV_TRACES names the folder of the trace that is replayed; without it the replay is skipped.
"""

import argparse
import gc
import json
import os
import platform
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.measure import rows
from tests.measure.race import race
from tests.measure.replay_cost import POOL_SIZES, TRACE, find_trace, measure_replays, replay_table
from tests.measure.soak import Soak
from tests.measure.tables import Result, comparison_table, scaling_table

__all__ = ["main"]

_SOAK_OPERATIONS = 1_000_000
_FILE_WIDTH = 190  # columns where the output is no terminal


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, print it, and write it where it says."""
    options = _parser().parse_args(argv)
    console = _console()
    report: dict[str, object] = {}
    peer = _peer(console) if options.peers else None
    report["conditions"] = _conditions(options.rounds, peer)
    gc.collect()
    gc.freeze()  # what is loaded so far is in nobody's way
    with _progress() as progress:
        compared = _measure(_chosen(rows.comparison(peer), options.only), options.rounds, progress)
        scaled = _measure(_chosen(rows.scaling(), options.only), options.rounds, progress)
    if compared:
        console.print(comparison_table(compared))
        for row in (result.row for result in compared if options.notes):
            console.print(f"{row.name}: {row.note}", highlight=False)
        report["comparison"] = [result.as_dict() for result in compared]
    if scaled:
        console.print(scaling_table(scaled))
        report["scaling"] = [result.as_dict() for result in scaled]
    if not options.only:
        report["replay"] = _replays(console)
    if options.soak:
        report["soak"] = _soak(console)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.measure.bookkeeping", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--peers", action="store_true", help="measure vLLM too, taking turns with it")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each row (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains this; no replay")
    parser.add_argument("--notes", action="store_true", help="say what each row includes on either side")
    parser.add_argument("--soak", action="store_true", help="a million random operations, with checks")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything to this file")
    return parser


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_WIDTH)


def _peer(console: Console) -> ModuleType | None:
    try:
        return import_module("tests.measure.peer_vllm")
    except ImportError as error:
        console.print(f"vLLM is left out: {error}")
        return None


def _conditions(num_rounds: int, peer: ModuleType | None) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "vllm": None if peer is None else peer.VERSION,
        "machine": platform.machine(),
        "num_cpus": os.cpu_count(),
        "num_rounds": num_rounds,
        "clock": "CPU time of the thread",
    }


def _chosen(all_rows: list[rows.Row], text: str) -> list[rows.Row]:
    return [row for row in all_rows if text in row.name]


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        transient=True,
    )


def _measure(chosen: list[rows.Row], num_rounds: int, progress: Progress) -> list[Result]:
    results = []
    task = progress.add_task("", total=len(chosen) * (num_rounds + 1))
    for row in chosen:
        progress.update(task, description=row.name)
        works = {name: make() for name, make in row.sides.items()}
        results.append(Result(row, race(works, num_rounds, _advance(progress, task))))
        works.clear()
        gc.collect()
    progress.remove_task(task)
    return results


def _advance(progress: Progress, task: TaskID) -> Callable[[], None]:
    return lambda: progress.advance(task)


def _replays(console: Console) -> list[dict[str, object]]:
    path = find_trace()
    if path is None:
        console.print(f"The replay is left out: PAGEDKV_TRACES names no folder with {TRACE}.")
        return []
    with _progress() as progress:
        task = progress.add_task("sequential replay", total=len(POOL_SIZES))
        costs = measure_replays(path, _advance(progress, task))
    console.print(replay_table(costs))
    return [cost.as_dict() for cost in costs]


def _soak(console: Console) -> dict[str, object]:
    with _progress() as progress:
        task = progress.add_task("random operations", total=_SOAK_OPERATIONS)
        result = Soak().run(_SOAK_OPERATIONS, tick=lambda num_ops: progress.advance(task, num_ops))
    console.print(
        f"{_SOAK_OPERATIONS:,} random operations in {result.seconds:.0f} CPU s, {result.num_checks} "
        f"integrity checks passed, every block came home"
    )
    console.print({"operations": result.operations, "counters": result.counters})
    return result.as_dict()


if __name__ == "__main__":
    main()
