"""The run: this machine's limits, then shape after shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pagedkv.bench.cases import COMPUTE_DTYPE, Case
from pagedkv.bench.contest import contest_of
from pagedkv.bench.floors import Limits, floor_of, work_of
from pagedkv.bench.limits import measure_limits
from pagedkv.bench.machine import Machine, describe
from pagedkv.bench.memory import needed_bytes
from pagedkv.bench.results import OURS, Row, Run
from pagedkv.bench.timing import Outcome, Timer, race, timer_for
from pagedkv.device_memory import available_memory
from pagedkv.errors import ConfigError, PagedKVError

__all__ = ["Bench", "Progress", "bench_kernels", "device_named", "prepare"]

Progress = Callable[[int, int], object]
"""Called with the number of shapes that are done, and of all."""

_LEAST_CALLS = 8
"""Calls of a shape, contestants and warm-up together, that a run is not worth without."""
_PATIENCE = 20
"""A shape may take as many times the time that it has, rather than be left out."""


def device_named(name: str | None) -> torch.device:
    """The device that somebody asked for; None for a GPU if there is one.

    Raises:
        ConfigError: torch finds no GPU.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        built = "" if torch.version.cuda else f", and this torch ({torch.__version__}) was built without CUDA"
        raise ConfigError(f"--device cuda: torch finds no GPU here{built}; use --device cpu")
    return torch.device(name or ("cuda" if has_cuda else "cpu"))


@dataclass(frozen=True, slots=True)
class Bench:
    """A machine that is ready to measure on.

    Attributes:
        device: where.
        machine: what it is.
        limits: what it was measured to do.
        timer: its clock.
    """

    device: torch.device
    machine: Machine
    limits: Limits
    timer: Timer


def prepare(device: torch.device, cases: Sequence[Case]) -> Bench:
    """Measure the limits that the floors of these shapes need."""
    machine, timer = describe(device.type), timer_for(device)
    limits = measure_limits(device, [COMPUTE_DTYPE[case.dtype] for case in cases], timer)
    return Bench(device, machine, limits, timer)


def bench_kernels(
    cases: Sequence[Case], bench: Bench, *, seconds: float, progress: Progress | None = None
) -> Run:
    """Measure. Ctrl-C ends the run early; what was measured until then is returned.

    Args:
        cases: the shapes.
        bench: where.
        seconds: time that each shape has, checks and all.
        progress: told how far it is.
    """
    rows: list[Row] = []
    is_interrupted = False
    try:
        for number, case in enumerate(cases):
            if progress is not None:
                progress(number, len(cases))
            rows.append(_measured(case, bench, seconds))
    except KeyboardInterrupt:
        is_interrupted = True
    return Run(
        machine=bench.machine,
        limits=bench.limits,
        seconds=seconds,
        rows=rows,
        planned=len(cases),
        is_interrupted=is_interrupted,
    )


def _measured(case: Case, bench: Bench, seconds: float) -> Row:
    row = Row(case=case, work=work_of(case), floor=floor_of(case, bench.limits))
    if reason := _too_large(case, bench.device) or _too_slow(row, seconds):
        return replace(row, reason=reason)
    try:
        contest = contest_of(case, bench.device)
        outcome = race(contest.contestants, contest.check, bench.timer, seconds)
    except torch.OutOfMemoryError:
        return replace(row, reason="out of memory, though there seemed to be enough")
    except PagedKVError as error:
        return replace(row, reason=str(error))
    except Exception as error:  # noqa: BLE001 - one kernel that fails must not end the run of the others
        return replace(row, wrong={OURS: f"failed: {_told(error)}"})
    return _settled(row, outcome, contest.skipped)


def _settled(row: Row, outcome: Outcome, skipped: Mapping[str, str]) -> Row:
    """Peers may refuse, and so may our kernels, in their own words; anything else of ours is a failure."""
    ours = outcome.failed.get(OURS)
    refused = {name: _told(error) for name, error in outcome.failed.items() if name != OURS}
    wrong = dict(outcome.wrong)
    if ours is not None and not isinstance(ours, PagedKVError):
        wrong[OURS] = f"failed: {_told(ours)}"
    return replace(
        row,
        timings=outcome.timings,
        skipped={**skipped, **refused},
        wrong=wrong,
        reason=str(ours) if isinstance(ours, PagedKVError) else "",
    )


def _too_large(case: Case, device: torch.device) -> str:
    needed, available = needed_bytes(case, device.type), available_memory(device)
    if available is None or needed <= available:
        return ""
    return f"needs about {needed / 2**30:.1f} GiB, and {available / 2**30:.1f} GiB are free"


def _too_slow(row: Row, seconds: float) -> str:
    """The reason if even at the floor the calls would take far too long."""
    least = _LEAST_CALLS * row.floor.seconds
    if least <= _PATIENCE * seconds:
        return ""
    needed = least / _PATIENCE
    return f"a call takes at least {row.floor.seconds:.2g} s; measure it with --seconds {needed:.2g} or more"


def _told(error: Exception) -> str:
    """On one line, without the traces that some errors carry in their text."""
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"
