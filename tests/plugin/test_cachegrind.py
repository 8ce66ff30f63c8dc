"""Instructions by cachegrind, of a benchmark under valgrind."""

import os
import shutil
from pathlib import Path

import pytest

from tests.plugin.conftest import Project

METERED = """
import pytest

@pytest.mark.pagedkv_perf
@pytest.mark.parametrize("number", [100, 300])
def test_metered(number, pagedkv_benchmark):
    pagedkv_benchmark(lambda: sum(range(number)), rounds=1)
"""
VALGRIND = """#!/bin/sh
[ "$1" = --tool=cachegrind ] || exit 9
echo valgrind said no
exit 3
"""


def instructions(project: Project) -> dict[str, int]:
    """What a run measures, by benchmark."""
    assert project.perf("--pagedkv-meters=cachegrind", "-p", "no:cacheprovider").ret == 0
    found = project.benchmarks(".pagedkv-perf/run.json")
    return {key: each["meters"]["instructions"] for key, each in found.items()}


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_instructions_repeat(project: Project) -> None:
    """Twice the same, but for where memory happens to lie, and more work is more of them."""
    project.write("test_metered.py", METERED)

    first, second = instructions(project), instructions(project)

    small, large = (first[f"test_metered.py::test_metered[{number}]"] for number in (100, 300))
    assert all(abs(second[key] / count - 1) < 0.01 for key, count in first.items())
    assert 2 * small < large < 3 * small


def test_without_valgrind_the_meter_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any test runs, with what can be done."""
    project.write("test_metered.py", METERED)
    monkeypatch.setenv("PATH", "/nowhere")

    result = project.perf("--pagedkv-meters=cachegrind")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --pagedkv-meters=cachegrind needs valgrind, which is not installed; install it, or leave *"]
    )


def test_a_valgrind_that_fails_is_quoted(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The benchmark fails with the end of what valgrind said, which is started once for all of them."""
    project.write("test_metered.py", METERED)
    (tmp_path / "valgrind").write_text(VALGRIND)
    (tmp_path / "valgrind").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    result = project.perf("--pagedkv-meters=cachegrind", "--tb=short")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*cachegrind: test_metered.py::* did not run under valgrind: *said no*"])
