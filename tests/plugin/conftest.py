"""A project to run pytest in, with our plugin and as few others as possible."""

import gc
import json
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from pytest_pagedkv.baselines.schema import Entry, render

GATED = """
import json, pathlib, pytest
pytestmark = pytest.mark.pagedkv_perf
VALUES = json.loads(pathlib.Path(__file__).with_name("values.json").read_text())

@pytest.mark.parametrize("name", VALUES)
def test_gated(name, pagedkv_benchmark):
    pagedkv_benchmark(lambda: None, rounds=1)
    pagedkv_benchmark.record(**VALUES[name])
"""
"""Benchmarks whose counters stand in a file, so that a regression is planted without touching the test."""


_LOADED = (
    "numpy",
    "nvtx",
    *(f"pytest_pagedkv.perf.{name}" for name in ("start", "controller", "gate", "benchmark", "traces")),
)
"""What runs in this process import: numpy bears it once only, and the others take long."""


_ALREADY_IMPORTED = "ignore:Module already imported so cannot be rewritten"
"""The plugin of the pytest that runs these tests, which `python -m pytest` imports in another way."""


class Project:
    """A folder of tests and baselines, on which pytest runs as a user would run it.

    Attributes:
        is_apart: pytest gets a process of its own, which takes half a second longer; for tests that look at
            the process, and projects that change more in theirs than pytester and `project` put back.
    """

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.is_apart = False

    def gated(self, **counters: dict[str, int]) -> None:
        """Write benchmarks of these names with these counters."""
        self.pytester.makepyfile(test_gated=GATED)
        self.write("values.json", json.dumps(counters))

    def stored(self, **counters: dict[str, int]) -> None:
        """Store such benchmarks as baselines."""
        entries = {f"test_gated.py::test_gated[{name}]": Entry(value) for name, value in counters.items()}
        self.write("perf_baselines/counters/test_gated.json", render(entries))

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def read(self, name: str) -> str:
        """Read a file."""
        return (self.path / name).read_text()

    def benchmarks(self, name: str) -> dict[str, dict[str, object]]:
        """The entries of a baseline file, or of the run file."""
        return json.loads(self.read(name))["benchmarks"]

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest without --pagedkv-perf."""
        given = ("-p", "pytest_pagedkv.plugin", *arguments)
        if self.is_apart:
            return self.pytester.runpytest_subprocess(*given)
        return self.pytester.runpytest_inprocess(*given, "-W", _ALREADY_IMPORTED)

    def perf(self, *arguments: str) -> pytest.RunResult:
        """Run the performance tests."""
        return self.run("--pagedkv-perf", *arguments)


@pytest.fixture(scope="module")
def loaded() -> Iterator[None]:
    """Modules that every run needs. What runs leave behind is collected once, after all tests of a file."""
    for name in _LOADED:
        import_module(name)
    yield
    gc.collect()


@pytest.fixture
def project(loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty project. The hash seed is 1, so that of the second pass is 0."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    for name in ("PAGEDKV_TRACES", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # every process would compile everything
    pytester.makeini("[pytest]\npagedkv_suite = false\n")
    # A project's own clock is taken out afterwards.
    monkeypatch.setattr(time, "thread_time_ns", time.thread_time_ns)
    gc.freeze()  # a benchmark's collection need not look at the objects of this process
    yield Project(pytester)
    gc.unfreeze()
