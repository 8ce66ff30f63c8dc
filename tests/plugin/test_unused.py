"""An installed plugin that is not used costs and shows nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
import sys

def pytest_unconfigure():
    print("MODULES", *sys.modules)
"""
HEAVY = {"torch", "numpy", "hypothesis", "nvtx", "pagedkv"}


def modules_of_a_run(folder: Path, *arguments: str) -> set[str]:
    """What an ordinary run in an isolated folder has imported when it ends."""
    (folder / "conftest.py").write_text(REPORT)
    (folder / "test_it.py").write_text("def test_it(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("MODULES"))
    return set(line.split()[1:])


def test_an_ordinary_run_imports_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by its entry point, the plugin imports no engine, tensor or gate module."""
    for name in ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)

    modules = modules_of_a_run(tmp_path, "-p", "no:hypothesispytest")

    assert {"pytest_pagedkv.plugin", "pytest_pagedkv.fixtures"} <= modules
    assert not modules & HEAVY
    assert not {
        name for name in modules if name.startswith(("pytest_pagedkv.perf", "pytest_pagedkv.baselines"))
    }
    assert {name for name in modules if name.startswith("pagedkv")} == set()


def test_an_ordinary_run_looks_the_same(pytester: pytest.Pytester) -> None:
    """With and without the plugin, the output of a run differs only in the list of plugins."""
    pytester.makepyfile(
        test_it="import pytest\ndef test_it(): pass\n@pytest.mark.skip\ndef test_no(): pass\n"
    )

    others = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    with_plugin = pytester.runpytest_subprocess(*others)
    without = pytester.runpytest_subprocess(*others, "-p", "no:pagedkv")

    def shown(result: pytest.RunResult) -> list[str]:
        return [line for line in result.outlines if not line.startswith(("plugins:", "====="))]

    assert shown(with_plugin) == shown(without)
    assert [path.name for path in pytester.path.iterdir() if path.name.startswith(".pagedkv")] == []
