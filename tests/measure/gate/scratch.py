"""A clone of this repository, on which the gate runs as a user would run it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["GateRun", "Scratch"]

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRun:
    """What a run of the gate said.

    Attributes:
        exit_code: pytest's.
        seconds: how long all of it took.
        told: the run file.
        output: what it printed.
        saved: the file with pytest-benchmark's own numbers.
    """

    exit_code: int
    seconds: float
    told: dict[str, Any]
    output: str
    saved: Path


class Scratch:
    """A clone of the last commit in a temporary folder, as long as the context lasts."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pagedkv-gate-"))
        self.clone = self.folder / "clone"
        self._num_runs = 0

    def __enter__(self) -> Self:
        subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(self.clone)], check=True)
        self._git("switch", "--quiet", "--create", "head")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit(self, message: str) -> None:
        """Commit what has changed, if anything has."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)

    def reset(self) -> None:
        """Back to the first commit."""
        self._git("reset", "--quiet", "--hard", "origin/HEAD")

    def gate(self, *arguments: str) -> GateRun:
        """Run `pytest --pagedkv-perf` on the clone."""
        self._num_runs += 1
        saved = self.folder / f"benchmark{self._num_runs}.json"
        started = os.times().elapsed
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--pagedkv-perf", f"--benchmark-json={saved}", *arguments],
            cwd=self.clone,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        file = self.clone / ".pagedkv-perf" / "run.json"
        told = json.loads(file.read_text()) if file.exists() else {}
        file.unlink(missing_ok=True)
        return GateRun(
            exit_code=done.returncode,
            seconds=round(os.times().elapsed - started, 1),
            told=told,
            output=done.stdout + done.stderr,
            saved=saved,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Variables by which the clone's code is imported."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PYTHONPATH": str(self.clone)} | more

    def _git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=measure", "-c", "user.email=measure@example.invalid"]
        subprocess.run(["git", *identity, "-C", str(self.clone), *arguments], check=True)
