"""A project in a git repository whose benchmarks take a virtual time, so that verdicts are certain."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.plugin.conftest import Project

CONFTEST = """
import time
import engine
time.thread_time_ns = lambda: engine.NOW
"""
ENGINE = """
NOW = 0
COST = {cost}

def work():
    global NOW
    NOW += COST
"""
BENCHMARK = """
import pytest
import engine
pytestmark = pytest.mark.pagedkv_perf

def test_work(pagedkv_benchmark):
    pagedkv_benchmark(engine.work)
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git, and return what it prints."""
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@example.invalid"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class DuetProject:
    """A project whose code costs what one says; `main` is the base."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.path = project.path
        self.pytester = project.pytester
        self.pytester.makeini(
            "[pytest]\npagedkv_suite = false\npythonpath = .\npagedkv_duet_timeout_s = 60\n"
        )
        project.write("conftest.py", CONFTEST)
        project.write("test_engine.py", BENCHMARK)
        project.write(".gitignore", ".pagedkv-perf/\n__pycache__/\n.pytest_cache/\n")
        self.cost(1_000_000)
        git(self.path, "init", "-q", "-b", "main")
        self.commit()

    def cost(self, nanoseconds: int) -> None:
        """What a call of the engine takes."""
        self.project.write("engine.py", ENGINE.format(cost=nanoseconds))

    def commit(self, message: str = "work") -> None:
        """Commit everything."""
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "--allow-empty", "-m", message)

    def told(self, folder: Path | None = None) -> dict[str, Any]:
        """What the run file says of the comparison of `test_work`."""
        run = json.loads(((folder or self.path) / ".pagedkv-perf" / "run.json").read_text())
        return run["benchmarks"]["test_engine.py::test_work"]["duet"]

    def worktrees(self) -> list[str]:
        """The worktrees besides this one."""
        told = git(self.path, "worktree", "list", "--porcelain").splitlines()
        return [line for line in told if line.startswith("worktree ")][1:]
