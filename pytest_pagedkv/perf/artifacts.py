"""What a run leaves in `.pagedkv-perf/`: candidates for new baselines, and everything it found."""

import shutil
from pathlib import Path

from pytest_pagedkv.baselines import Entry
from pytest_pagedkv.baselines.store import write_atomic
from pytest_pagedkv.perf.run import PerfRun
from pytest_pagedkv.report.run_file import run_as_json

__all__ = ["write_artifacts"]

_FOLDER = ".pagedkv-perf"


def write_artifacts(run: PerfRun, exit_code: int) -> None:
    """Write all of them; where that is impossible, a note says so and the run goes on."""
    try:
        write_atomic(run.root / _FOLDER / ".gitignore", "*\n")
        run.candidates = _write_candidates(run)
        write_atomic(run.root / _FOLDER / "run.json", run_as_json(run, exit_code))
    except OSError as error:
        run.notes.append(f"{_FOLDER} cannot be written: {error.strerror}")


def _write_candidates(run: PerfRun) -> Path:
    """The folder to copy over the baselines: the stored files and what is new, with no other change."""
    folder = run.root / _FOLDER / "candidates" / "counters"
    shutil.rmtree(folder, ignore_errors=True)
    new: dict[str, Entry | None] = {
        key: Entry(result.measured.counters or {}) for key, result in run.unstored().items()
    }
    for name, text in run.baselines.with_changes(new).items():
        write_atomic(folder / name, text)
    return folder
