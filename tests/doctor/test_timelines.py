"""Traces of torch.profiler, exports of nsys, and the arithmetic of stretches of time."""

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.doctor import diagnose
from pagedkv.doctor.timeline.intervals import Intervals, overlap
from pagedkv.pitfalls.finding import Pitfall
from tests.doctor.conftest import Doctor

STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=20)


@given(STRETCHES, STRETCHES)
def test_overlap_is_that_of_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    """Totals and overlaps of whole numbers are those of sets of them."""
    sets = []
    intervals = []
    for stretches in (one, other):
        kept = Intervals()
        for start, lasting in stretches:
            kept.add(start, start + lasting)
        intervals.append(kept)
        sets.append({at for start, lasting in stretches for at in range(start, start + lasting)})

    assert intervals[0].total() == len(sets[0])
    assert overlap(*intervals) == len(sets[0] & sets[1])


def event(category: str, name: str, start: float, lasting: float, **more: Any) -> dict[str, Any]:
    """An event as Kineto writes it."""
    host = {"pid": 1551, "tid": 1551}
    place = {"pid": 0, "tid": 7} if category in ("kernel", "gpu_memcpy") else host
    return {"ph": "X", "cat": category, "name": name, **place, "ts": start, "dur": lasting, "args": more}


def trace(*events: dict[str, Any]) -> str:
    """A trace as torch.profiler writes it."""
    head = {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "H200"}], "displayTimeUnit": "ms"}
    return json.dumps({**head, "traceEvents": list(events), "traceName": "t.json"}, indent=2)


def step_with(*inside: tuple[str, str, float, float]) -> list[dict[str, Any]]:
    """Ten steps of a millisecond, each with a kernel and these events."""
    events = []
    for number in range(10):
        start = 5_206_922_468_195.5 + 2000 * number
        events.append(event("user_annotation", "execute", start, 1000))
        events.append(event("kernel", "decode", start + 100, 800, device=0, stream=7))
        events += [event(cat, name, start + at, lasting, device=0) for cat, name, at, lasting in inside]
    return events


def test_a_healthy_trace_is_clean(doctor: Doctor) -> None:
    """One wait for the tokens at the end of a step, and small copies, are as it should be."""
    inside = [
        ("cuda_runtime", "cudaStreamSynchronize", 850.0, 140.0),
        ("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 950.0, 5.0),
        ("cuda_runtime", "cudaLaunchKernel", 90.0, 5.0),
    ]

    found = doctor(trace(*step_with(*inside)))

    assert (found.exit_code, found.files[0].kind) == (0, "torch.profiler trace")
    assert (found.files[0].num_read, found.files[0].num_understood) == (50, 40)


def test_blocking_inside_a_step(doctor: Doctor) -> None:
    """Several waits in each step are found, with the number of the longest event."""
    inside = [("cuda_runtime", "cudaStreamSynchronize", at, 100.0 + at / 10) for at in (200.0, 400.0, 600.0)]

    (finding,) = doctor(trace(*step_with(*inside))).findings

    assert finding.pitfall is Pitfall.LATENCY_SPIKE
    assert finding.evidence["blocking_calls_per_step"] == 3
    assert finding.evidence["blocking_ratio"] == pytest.approx(0.42, abs=1e-3)
    assert [each.line for each in finding.sources] == [3, 5]


def test_blocking_outside_of_steps_is_nobodys_business(doctor: Doctor) -> None:
    """The same calls between the steps say nothing."""
    inside = [("cuda_runtime", "cudaStreamSynchronize", at, 100.0) for at in (1100.0, 1300.0, 1500.0)]

    assert not doctor(trace(*step_with(*inside))).findings


@pytest.mark.parametrize(
    "name", ["cuModuleLoadData", "cudaGraphInstantiate", "triton/compiler/compiler.py(9): compile"]
)
def test_compiling_inside_a_step(doctor: Doctor, name: str) -> None:
    """Compiling that takes a tenth of the steps' time is found."""
    (finding,) = doctor(trace(*step_with(("cuda_driver", name, 100.0, 100.0)))).findings

    assert finding.evidence["compile_ratio"] == pytest.approx(0.1)
    assert name in finding.sources[0].text


def test_copies_that_nothing_runs_beside(doctor: Doctor) -> None:
    """Copies with the device to themselves are found; beside kernels they are not."""
    alone = ("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 920.0, 400.0)
    beside = ("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 200.0, 400.0)

    (finding,) = doctor(trace(*step_with(alone))).findings
    assert finding.evidence["overlap_ratio"] == 0.0
    assert finding.evidence["copy_ratio"] == pytest.approx(1 / 3)
    assert not doctor(trace(*step_with(beside))).findings


def test_pageable_copies(doctor: Doctor) -> None:
    """Megabytes through pageable memory are found, whatever packs the trace."""
    copy = event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 5, 9, device=0, bytes=1 << 25)
    text = trace(event("kernel", "k", 0, 900, device=0), copy)

    (finding,) = doctor(gzip.compress(text.encode())).findings

    assert (finding.pitfall, finding.evidence["pageable_ratio"]) == (Pitfall.OFFLOAD_THRASH, 1.0)
    assert finding.sources[0].line == 2


def test_a_trace_that_was_cut_off(doctor: Doctor) -> None:
    """The events that are there count; that they are not all, and what is missing, is said."""
    text = trace(event("cpu_op", "aten::mm", 1, 2), event("cpu_op", "aten::mm", 4, 2))

    report = doctor(text[: text.rindex("aten")]).files[0]

    assert (report.num_read, report.num_odd) == (1, 1)
    assert "cut off" in report.notes[-1]
    assert "no rows of a GPU" in report.notes[0]


def test_events_of_any_shape(doctor: Doctor) -> None:
    """What is no event is left out."""
    odd: list[Any] = [
        {"ph": "X", "cat": 5, "name": [], "ts": "x", "dur": None},
        {"ph": "X", "cat": "kernel", "name": "k", "ts": 1, "dur": 1e999},
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 1, "dur": 1, "args": None},
        3,
    ]

    report = doctor(trace(*odd)).files[0]

    assert (report.num_read, report.num_understood, report.num_odd) == (3, 1, 1)


def test_a_trace_of_torch(tmp_path: Path) -> None:
    """What torch.profiler writes on a machine without a GPU is read, and what it lacks is said."""
    torch = pytest.importorskip("torch")
    from torch.profiler import ProfilerActivity, profile, record_function

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(3):
            with record_function("execute"):
                torch.ones(8, 8) @ torch.ones(8, 8)
    path = tmp_path / "t.json"
    profiled.export_chrome_trace(str(path))

    found = diagnose([str(path)])

    assert (found.exit_code, found.files[0].kind) == (0, "torch.profiler trace")
    assert found.files[0].num_understood == 3
    (note,) = found.files[0].notes
    assert note.startswith("no rows of a GPU")


TABLES = {
    "StringIds": ("id", "value"),
    "NVTX_EVENTS": ("start", "end", "text", "textId", "globalTid"),
    "CUPTI_ACTIVITY_KIND_KERNEL": ("start", "end", "deviceId", "streamId", "shortName"),
    "CUPTI_ACTIVITY_KIND_RUNTIME": ("start", "end", "nameId", "globalTid", "correlationId"),
    "CUPTI_ACTIVITY_KIND_MEMCPY": ("start", "end", "deviceId", "bytes", "copyKind", "srcKind", "dstKind"),
    "ENUM_CUDA_MEM_KIND": ("id", "name", "label"),
}


def export(path: Path, rows: dict[str, list[tuple[Any, ...]]]) -> str:
    """An export of nsys with these rows; tables without any are left out."""
    with sqlite3.connect(path) as database:
        for table, found in rows.items():
            columns = ", ".join(f'"{column}"' for column in TABLES[table])
            database.execute(f"CREATE TABLE {table} ({columns})")
            marks = ", ".join("?" * len(TABLES[table]))
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", found)  # noqa: S608 - ours
    database.close()
    return str(path)


def sick_rows() -> dict[str, list[tuple[Any, ...]]]:
    """Ten steps that wait three times, and copy from pageable memory beside nothing."""
    steps = [10_000_000 * number for number in range(10)]
    return {
        "StringIds": [(1, "cudaStreamSynchronize_v3020"), (2, "execute"), (3, "cudaLaunchKernel_v7000")],
        "NVTX_EVENTS": [(start, start + 1_000_000, None, 2, 5) for start in steps],
        "CUPTI_ACTIVITY_KIND_KERNEL": [(start, start + 300_000, 0, 7, 3) for start in steps],
        "CUPTI_ACTIVITY_KIND_RUNTIME": [
            (start + at, start + at + 150_000, 1, 5, 0)
            for start in steps
            for at in (100_000, 400_000, 700_000)
        ],
        "CUPTI_ACTIVITY_KIND_MEMCPY": [
            (start + 400_000, start + 900_000, 0, 1 << 22, 1, 0, 2) for start in steps
        ],
        "ENUM_CUDA_MEM_KIND": [(0, "CUDA_MEMOPR_MEMORY_KIND_PAGEABLE", "Pageable"), (1, "PINNED", "Pinned")],
    }


def test_an_export_of_nsys(tmp_path: Path) -> None:
    """Waits, copies beside nothing and pageable memory are found."""
    found = diagnose([export(tmp_path / "r.sqlite", sick_rows())])

    evidence = {name: value for each in found.findings for name, value in each.evidence.items()}
    assert found.files[0].kind == "nsys sqlite export"
    assert evidence["blocking_calls_per_step"] == 3
    assert evidence["blocking_ratio"] == pytest.approx(0.45)
    assert evidence["pageable_bytes"] == 10 << 22
    assert evidence["overlap_ratio"] == 0.0


@pytest.mark.parametrize("kept", sorted(TABLES.keys() - {"ENUM_CUDA_MEM_KIND"}))
def test_an_export_with_one_table(tmp_path: Path, kept: str) -> None:
    """Missing tables are normal, and are named."""
    found = diagnose([export(tmp_path / "r.sqlite", {kept: sick_rows()[kept]})])

    assert not found.files[0].error
    assert sum(name in found.files[0].notes[-1] for name in TABLES) == 4


def test_another_database(tmp_path: Path) -> None:
    """A database of something else is refused, and left as it is."""
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE people (name TEXT)")
    database.close()
    before = path.read_bytes()

    found = diagnose([str(path)])

    assert (found.exit_code, path.read_bytes()) == (2, before)
    assert "no export of nsys" in found.files[0].error
