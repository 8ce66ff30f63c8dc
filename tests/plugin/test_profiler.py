"""What a profiler sees of a run."""

from pathlib import Path

import pytest

from tests.plugin.conftest import Project
from tests.profiler import built_profiler

TIMED = """
import pytest

@pytest.mark.pagedkv_perf
def test_ranges(pagedkv_benchmark):
    pagedkv_benchmark(lambda: None, setup=lambda: None, rounds=3)

@pytest.mark.pagedkv_perf(metric="wall")
def test_waits(pagedkv_benchmark):
    pagedkv_benchmark(lambda: None, setup=lambda: None, rounds=2)
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the profiler writes what it sees of the processes that are started."""
    for name, value in built_profiler(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path / "notes.tsv"


def test_a_profiler_sees_benchmarks_and_their_rounds(project: Project, notes: Path) -> None:
    """Each benchmark is a range in the domain "pagedkv", with one for each round in it, properly nested."""
    project.write("test_ranges.py", TIMED)

    project.is_apart = True  # NVTX loads a profiler once in a process
    assert project.perf().ret == 0

    rows = [line.split("\t") for line in notes.read_text().splitlines()]
    assert {domain for _, _, domain, _ in rows} == {"pagedkv"}
    inside = rounds_of(rows)
    assert set(inside) == {"test_ranges.py::test_ranges", "test_ranges.py::test_waits"}
    assert inside["test_ranges.py::test_ranges"].count("round") >= 3
    assert inside["test_ranges.py::test_ranges"].count("reference") == 3
    assert set(inside["test_ranges.py::test_waits"]) == {"round"}


def rounds_of(rows: list[list[str]]) -> dict[str, list[str]]:
    """The ranges directly inside each outermost range."""
    found: dict[str, list[str]] = {}
    open_ranges: list[str] = []
    for _, what, _, message in rows:
        if what == "pop":
            open_ranges.pop()
            continue
        if open_ranges:
            found[open_ranges[-1]].append(message)
        else:
            found[message] = []
        open_ranges.append(message)
    assert open_ranges == []
    return found
