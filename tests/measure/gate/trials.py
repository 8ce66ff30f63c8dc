"""Runs of the gate, one line of JSON each."""

import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.measure.gate.injected import Place
from tests.measure.gate.scratch import GateRun, Scratch

__all__ = ["Line", "calibrated", "count", "slowdown", "unchanged"]

Line = dict[str, Any]
Say = Callable[[str], None]

_AGAINST = "--pagedkv-against=HEAD~1"


def unchanged(num_runs: int, *, is_loaded: bool, say: Say) -> Iterator[Line]:
    """The whole suite against an empty commit."""
    with Scratch() as scratch, _background(is_loaded):
        scratch.commit("nothing")
        for number in range(num_runs):
            run = scratch.gate(_AGAINST)
            say(f"unchanged {number + 1} of {num_runs}: exit code {run.exit_code}, {run.seconds:.0f} s")
            yield {"kind": "unchanged", "is_loaded": is_loaded, **_line(run)}


def calibrated(scratch: Scratch, place: Place, percent: float, say: Say) -> int:
    """The amount of work that makes so many percent: a guess, corrected twice by three runs with it."""
    amount = round(percent * place.per_percent)
    for _ in range(2):
        effects = []
        for _ in range(3):
            _plant(scratch, place, amount)
            told = scratch.gate(_AGAINST, place.test).told["benchmarks"][place.test]["duet"]
            effects.append(told["effect"])
        effect = max(sorted(effects)[1], percent / 300)
        say(f"{place.name}: {amount} is {effect:.1%}")
        amount = max(1, round(amount * percent / 100 / effect))
    return amount


def _plant(scratch: Scratch, place: Place, amount: int) -> GateRun:
    """Base and head as two commits; returns an ordinary run of the base."""
    scratch.reset()
    place.prepare(scratch)
    scratch.commit("base")
    before = scratch.gate(place.test)
    place.plant(scratch, amount)
    scratch.commit("slower")
    return before


def slowdown(place: Place, percents: list[float], num_trials: int, say: Say) -> Iterator[Line]:
    """The place's benchmark, slower by so many percent, and pytest-benchmark beside it."""
    with Scratch() as scratch:
        for percent in percents:
            amount = calibrated(scratch, place, percent, say)
            for number in range(num_trials):
                before = _plant(scratch, place, amount)
                run = scratch.gate(_AGAINST, place.test)
                what = f"{place.name} +{percent:g}%, {number + 1} of {num_trials}"
                say(f"{what}: exit code {run.exit_code}, {run.seconds:.0f} s")
                yield {
                    "kind": "slowdown",
                    "place": place.name,
                    "test": place.test,
                    "percent": percent,
                    "before": _saved(before.saved),
                    **_line(run),
                }


def count(num_runs: int, say: Say) -> Iterator[Line]:
    """Nothing but the counters, each time under another hash seed, half of them under load."""
    with Scratch() as scratch:
        for number in range(num_runs):
            with _background(number % 2 == 1), tempfile.TemporaryDirectory() as name:
                folder, seed = Path(name), random.randrange(2**32)  # noqa: S311 - any seed will do
                (folder / "wanted.json").write_text("null")
                environment = scratch.environment(
                    PYTHONHASHSEED=str(seed), PAGEDKV_COUNTING_FOLDER=str(folder)
                )
                command = [sys.executable, "-m", "pytest", "--pagedkv-perf", "-p", "no:cacheprovider"]
                subprocess.run(
                    command, cwd=scratch.clone, env=environment, check=False, stdout=subprocess.DEVNULL
                )
                counted = json.loads((folder / "counted.json").read_text())["counters"]
            say(f"counters {number + 1} of {num_runs}: {len(counted)} benchmarks")
            yield {"kind": "counters", "hash_seed": seed, "counters": counted}


def _line(run: GateRun) -> Line:
    return {
        "exit_code": run.exit_code,
        "seconds": run.seconds,
        "load": os.getloadavg()[0],
        "benchmarks": {key: _brief(told) for key, told in run.told.get("benchmarks", {}).items()},
        "saved": _saved(run.saved),
        "output": run.output[-2000:] if run.exit_code not in (0, 10) else "",
    }


def _brief(told: dict[str, Any]) -> Line:
    duet = told["duet"]
    if duet is None:
        return {"verdict": told["verdict"]}
    keys = ("verdict", "effect", "threshold", "base_ns", "head_ns")
    return {key: duet[key] for key in keys} | {"num_pairs": len(duet["pairs"])}


def _saved(path: Path) -> Line:
    """pytest-benchmark's own statistics."""
    if not path.exists() or not path.read_text().strip():
        return {}
    fields = ("min", "mean", "median")
    return {
        each["fullname"]: {field: each["stats"][field] for field in fields}
        for each in json.loads(path.read_text())["benchmarks"]
    }


@contextmanager
def _background(is_loaded: bool) -> Iterator[None]:
    """Two processes that come and go on the cores, as neighbours do."""
    processes = [multiprocessing.Process(target=_neighbour, daemon=True) for _ in range(2 * is_loaded)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _neighbour() -> None:
    while True:
        until = time.monotonic() + random.uniform(0.0, 0.4)  # noqa: S311
        garbage: list[bytes] = []
        while time.monotonic() < until:
            garbage = [bytes(4096) for _ in range(500)]
        del garbage
        time.sleep(random.uniform(0.0, 0.4))  # noqa: S311
