"""The instructions of one call, counted by cachegrind, which simulates the processor.

All benchmarks run once in a process under valgrind, with a fixed hash seed. There each is forked twice, once
for a number of calls and once for twice as many: the two begin with the same state, so that they differ in
these calls and in nothing else. It takes about forty times as long as the code, and half a minute to begin.
"""

import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from pytest_pagedkv.perf.caretaker import Caretaker
from pytest_pagedkv.perf.child import run_counting
from pytest_pagedkv.perf.keys import file_of
from pytest_pagedkv.perf.meters import Call, quiet_gc
from pytest_pagedkv.perf.tested import BENCHMARK
from pytest_pagedkv.state import STATE

__all__ = ["check_valgrind", "fork_twice", "instructions", "narrow_to_forked"]

_WANTED = "fork.json"
_FORKED = "forked.jsonl"
_SEED = "0"
_TAIL_CHARACTERS = 1000
_NUM_CALLS = ((60_000_000, 16), (250_000_000, 4))
"""A call that takes less than so many ns, under valgrind, is made so often; any other once."""
_COUNTED = pytest.StashKey[tuple[dict[str, int], str]]()
"""Instructions by benchmark, and how the other process ended."""


def check_valgrind() -> None:
    """Say before any test runs that there is no valgrind.

    Raises:
        pytest.UsageError: there is none.
    """
    if shutil.which("valgrind") is None:
        raise pytest.UsageError(
            "--pagedkv-meters=cachegrind needs valgrind, which is not installed; install it, or leave it out"
        )


def instructions(request: pytest.FixtureRequest, key: str) -> int:
    """Instructions of one call of a benchmark; the first time, all of the session are counted.

    Raises:
        RuntimeError: the benchmark did not run under valgrind; says why.
    """
    stash = request.config.stash
    if _COUNTED not in stash:
        items = request.session.items
        keys = sorted(item.stash[BENCHMARK].key for item in items if BENCHMARK in item.stash)
        stash[_COUNTED] = _counted(request.config, keys)
    counted, output = stash[_COUNTED]
    if key not in counted:
        raise RuntimeError(f"cachegrind: {key} did not run under valgrind: {output}")
    return counted[key]


def narrow_to_forked(config: pytest.Config, folder: Path, keys: set[str] | None) -> None:
    """In the other process: collect nothing but the benchmarks' files, since all is slow there."""
    if keys and (folder / _WANTED).exists():
        config.args[:] = sorted({str(file_of(key, config.rootpath)) for key in keys})
        config.args_source = pytest.Config.ArgsSource.ARGS


def fork_twice(folder: Path, key: str, call: Call) -> None:
    """In the other process: make the calls, each number of them in a process of its own."""
    if not (folder / _WANTED).exists():
        return
    started = time.perf_counter_ns()
    call.once()
    took = time.perf_counter_ns() - started
    number = next((number for limit, number in _NUM_CALLS if took < limit), 1)
    for _ in range(number):
        call.once()
    arguments = call.arguments(2 * number)
    with quiet_gc():
        pids = [_forked(call.fn, arguments[: number * times]) for times in (1, 2)]
    with (folder / _FORKED).open("a") as file:
        file.write(json.dumps([key, number, pids]) + "\n")


def _forked(fn: Callable[..., object], arguments: Sequence[tuple[Any, ...]]) -> int:
    """Make these calls in a fork of this process, which then ends at once; returns its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other threads may hold locks; what runs here is one benchmark
        pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return pid
    try:
        for each in arguments:
            fn(*each)
    finally:
        os._exit(0)


def _counted(config: pytest.Config, keys: list[str]) -> tuple[dict[str, int], str]:
    """Instructions by benchmark, and how the other process ended."""
    with Caretaker() as caretaker:
        folder = Path(mkdtemp(prefix="pagedkv-"))
        caretaker.watch_folder(folder)
        (folder / "wanted.json").write_text(json.dumps(keys))
        (folder / _WANTED).touch()
        tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={folder}/out.%p"]
        timeout_s = config.stash[STATE].options.second_pass_timeout_s
        ended, output = run_counting(config, folder, _SEED, timeout_s, caretaker, tool)
        file = folder / _FORKED
        lines = file.read_text().splitlines() if file.exists() else []
        counted = {key: _difference(folder, number, pids) for key, number, pids in map(json.loads, lines)}
    said = "\n".join(output)[-_TAIL_CHARACTERS:]
    return {key: count for key, count in counted.items() if count is not None}, f"{ended}: {said}"


def _difference(folder: Path, number: int, pids: Sequence[int]) -> int | None:
    """Instructions of one call: the two processes differ in that many."""
    once, twice = (_total(folder / f"out.{pid}") for pid in pids)
    return None if once is None or twice is None else round((twice - once) / number)


def _total(file: Path) -> int | None:
    found = re.search(r"^summary: *(\d+)$", file.read_text() if file.exists() else "", re.MULTILINE)
    return None if found is None else int(found[1])
