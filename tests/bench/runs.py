"""Runs to show, made up; nothing here needs torch."""

from dataclasses import replace

from pagedkv.bench.cases import COPIES, Case
from pagedkv.bench.floors import Limits, floor_of, work_of
from pagedkv.bench.grid import Choice, cases_of
from pagedkv.bench.machine import Machine
from pagedkv.bench.results import OURS, Row, Run, Timing

LIMITS = Limits(10e9, 20e9, {"fp32": 50e9, "bf16": 200e9})
MACHINE = Machine(
    device="cpu",
    cpu="A Processor <of 2 cores>",
    num_cores=2,
    num_threads=2,
    torch="2.13.0+cpu",
    triton="none",
    python="3.11.7",
    system="Linux 6.1 x86_64",
    load=0.3,
)


def row(case: Case, factor: float = 2.0) -> Row:
    """A shape on which we take a multiple of the floor, and a peer twice as long as we do."""
    floor = floor_of(case, LIMITS)
    times = tuple(floor.seconds * factor * each for each in (1.2, 1.0, 1.1))
    peer = "clone" if case.kernel in COPIES else "sdpa"
    error = 0.0 if case.kernel in COPIES else 2e-4
    return Row(
        case=case,
        work=work_of(case),
        floor=floor,
        timings={OURS: Timing(times, error), peer: Timing(tuple(2 * each for each in times), error)},
        skipped={} if case.kernel in COPIES else {"flashinfer": "flashinfer is not installed"},
    )


def full_run() -> Run:
    """All shapes of a CPU, measured."""
    rows = [row(case) for case in cases_of(Choice(device="cpu"))]
    return Run(machine=MACHINE, limits=LIMITS, seconds=1.0, rows=rows, planned=len(rows))


def troubled_run() -> Run:
    """One shape measured, one wrong, one whose peer was wrong, one left out, and then Ctrl-C."""
    cases = cases_of(Choice(device="cpu", kernels=["paged_decode"], dtype=["fp32"], page=[16], batch=[4, 8]))
    first, second, third, fourth = (row(case) for case in cases[:4])
    sdpa_only = {"sdpa": second.timings["sdpa"]}
    ours_only = {OURS: third.timings[OURS]}
    wrong = "wrong result: relative error 0.3, at most 0.0001 is right"
    rows = [
        first,
        replace(second, timings=sdpa_only, wrong={OURS: wrong}),
        replace(third, timings=ours_only, wrong={"sdpa": wrong}),
        replace(fourth, timings={}, skipped={}, reason="needs about 90.0 GiB, and 20.0 GiB are free"),
    ]
    return Run(machine=MACHINE, limits=LIMITS, seconds=1.0, rows=rows, planned=6, is_interrupted=True)
