"""Which hooks a process of a performance run has."""

import os
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines import Baselines, Collected
from pytest_pagedkv.baselines.fingerprint import fingerprint
from pytest_pagedkv.baselines.kernels import Kernels
from pytest_pagedkv.baselines.slower import Slowdowns
from pytest_pagedkv.baselines.timing_store import Timings
from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.cachegrind import check_valgrind, narrow_to_forked
from pytest_pagedkv.perf.compiled import KERNELS, CompiledKernels
from pytest_pagedkv.perf.counting import Counting, wanted_keys
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
        if wanted is None:
            _compile(config, state)
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
    run = PerfRun(options=options, root=root, command=_command(config), **_baselines(config, options))
    if state.role is Role.CONTROLLER:
        _check_writable(run)
    _compile(config, state)
    _select(config, Selection(options, root, run.collected))
    # Most of what there is to import; a process that only counts or times needs none of it.
    from pytest_pagedkv.perf.controller import Controller, Worker
    from pytest_pagedkv.perf.gate import Gate

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


def _compile(config: pytest.Config, state: State) -> None:
    kernels = config.stash[KERNELS] = CompiledKernels(
        config, state.role, state.root / ".pagedkv-perf" / "compiled"
    )
    config.pluginmanager.register(kernels, "pagedkv-kernels")


def _baselines(config: pytest.Config, options: Options) -> dict[str, Any]:
    """What is stored: counters, also of kernels, accepted slowdowns, and times by metric."""
    folder, shown = options.baselines, _shown(options.baselines, config)
    metrics = ("cpu", "cuda") if options.device == "cuda" else ("cpu",)
    try:
        timings = {metric: Timings(folder, shown, fingerprint(metric)) for metric in metrics}
        return {
            "baselines": Baselines(folder, shown),
            "kernels": Kernels(folder, shown),
            "slowdowns": Slowdowns(folder, shown),
            "timings": timings,
        }
    except BaselineError as error:
        raise pytest.UsageError(str(error)) from error


def _check_writable(run: PerfRun) -> None:
    """Say now, and not after all tests have run, that nothing can be stored."""
    options, slowdowns = run.options, run.slowdowns
    try:
        if options.update in ("timing", "all"):
            for each in run.timings.values():
                each.check_writable(each.keys())
        if options.updates_counters():
            run.baselines.check_writable(run.baselines.keys())
        elif options.accept:
            run.baselines.check_writable(options.accept)
        if options.update in ("counters", "kernels", "all"):
            run.kernels.check_writable()
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
