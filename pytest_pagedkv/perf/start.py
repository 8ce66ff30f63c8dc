"""Which hooks a process of a performance run has."""

import os
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines import Baselines, Collected
from pytest_pagedkv.baselines.fingerprint import fingerprint
from pytest_pagedkv.baselines.slower import Slowdowns
from pytest_pagedkv.baselines.timing_store import Timings
from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.cachegrind import check_valgrind, narrow_to_forked
from pytest_pagedkv.perf.controller import Controller, Worker
from pytest_pagedkv.perf.counting import Counting, wanted_keys
from pytest_pagedkv.perf.gate import Gate
from pytest_pagedkv.perf.selection import Narrowing, Selection
from pytest_pagedkv.perf.suite import add_suite
from pytest_pagedkv.report.run import PerfRun
from pytest_pagedkv.state import COUNTING_FOLDER, DUET, Role, State

__all__ = ["start"]


def start(config: pytest.Config, state: State) -> None:
    """Register the hooks that this process needs.

    Raises:
        pytest.UsageError: a baseline file cannot be used.
    """
    if state.options.device == "cuda":
        _check_gpu()
    add_suite(config, is_wanted=state.options.suite and state.role is not Role.DUET)
    register = config.pluginmanager.register
    options, root = state.options, state.root
    if state.role is Role.COUNTING:
        folder = config.stash[COUNTING_FOLDER]
        wanted = wanted_keys(folder)
        narrow_to_forked(config, folder, wanted)
        _select(config, Selection(options, root, Collected(), wanted))
        register(Counting(folder), "pagedkv-counting")
        return
    if state.role is Role.DUET:
        duet = config.stash[DUET]
        duet.narrow_arguments()
        _select(config, Selection(options, root, Collected(), duet.wanted))
        register(duet, "pagedkv-duet")
        return
    if "cachegrind" in options.meters:
        check_valgrind()
    baselines, slowdowns, timings = _baselines(config, options)
    if state.role is Role.CONTROLLER:
        _check_writable(baselines, slowdowns, timings, options)
    run = PerfRun(
        options=options,
        root=root,
        command=_command(config),
        baselines=baselines,
        slowdowns=slowdowns,
        timings=timings,
    )
    _select(config, Selection(options, root, run.collected))
    register(Gate(run), "pagedkv-gate")
    if state.role is Role.WORKER:
        register(Worker(config, run), "pagedkv-worker")
    else:
        register(Controller(config, run), "pagedkv-controller")


def _check_gpu() -> None:
    try:
        torch = import_module("torch")
    except ImportError as error:
        raise pytest.UsageError(f"--pagedkv-device=cuda needs torch: {error}") from error
    if not torch.cuda.is_available():
        raise pytest.UsageError(
            f"--pagedkv-device=cuda: torch {torch.__version__} finds no GPU here; install a build for CUDA, "
            "or leave the option out to run on the CPU"
        )


def _select(config: pytest.Config, selection: Selection) -> None:
    config.pluginmanager.register(selection, "pagedkv-selection")
    config.pluginmanager.register(Narrowing(selection), "pagedkv-narrowing")


def _baselines(config: pytest.Config, options: Options) -> tuple[Baselines, Slowdowns, dict[str, Timings]]:
    """What is stored: counters, accepted slowdowns, and times by metric."""
    folder, shown = options.baselines, _shown(options.baselines, config)
    metrics = ("cpu", "cuda") if options.device == "cuda" else ("cpu",)
    try:
        timings = {metric: Timings(folder, shown, fingerprint(metric)) for metric in metrics}
        return Baselines(folder, shown), Slowdowns(folder, shown), timings
    except BaselineError as error:
        raise pytest.UsageError(str(error)) from error


def _check_writable(
    baselines: Baselines, slowdowns: Slowdowns, timings: Mapping[str, Timings], options: Options
) -> None:
    """Say now, and not after all tests have run, that nothing can be stored."""
    try:
        if options.update in ("timing", "all"):
            for each in timings.values():
                each.check_writable(each.keys())
        if options.update in ("counters", "all"):
            baselines.check_writable(baselines.keys())
        elif options.accept:
            baselines.check_writable(options.accept)
        if options.update and slowdowns.keys():
            slowdowns.check_writable(slowdowns.keys())
        if options.accept and options.against:
            slowdowns.check_writable(options.accept)
    except BaselineError as error:
        raise pytest.UsageError(str(error)) from error


def _command(config: pytest.Config) -> str:
    given = config.option.pagedkv_baselines
    return shlex.join(["pytest", "--pagedkv-perf", *([f"--pagedkv-baselines={given}"] if given else [])])


def _shown(path: Path, config: pytest.Config) -> str:
    """A path as one would type it."""
    if path.is_relative_to(config.rootpath):
        return Path(os.path.relpath(path, config.invocation_params.dir)).as_posix()
    return path.as_posix()
