"""Timing processes that die, hang or talk nonsense, and interrupted runs: clear words and no remains."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.conftest import Project
from tests.plugin.duets import BENCHMARK, DuetProject

_PATIENCE_S = 30


@pytest.fixture
def duet(project: Project) -> DuetProject:
    """A repository whose head is its base."""
    return DuetProject(project)


def broken_base(duet: DuetProject, trouble: str) -> pytest.RunResult:
    """Compare with a base whose benchmark does this when it is timed for the second time."""
    broken = f"""
import os, sys, time

calls = 0

def trouble():
    global calls
    calls += 1
    if calls == 5:
        {trouble}
"""
    duet.project.write("trouble.py", broken)
    duet.project.write(
        "engine.py", duet.project.read("engine.py") + "    import trouble; trouble.trouble()\n"
    )
    duet.commit("trouble")
    duet.cost(1_000_000)
    return duet.project.perf("--pagedkv-against=main")


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("os._exit(3)", "the base's timing process ended before its work was done (exit code 3)"),
        ("os.kill(os.getpid(), 11)", "the base's timing process ended before its work was done (signal 11)"),
        ("print('its last words', flush=True); os._exit(0)", "| *its last words"),
    ],
    ids=["exits", "crashes", "talks"],
)
def test_a_process_that_dies(duet: DuetProject, trouble: str, message: str) -> None:
    """Exit code 11, which side it was, how it ended, and what it printed."""
    result = broken_base(duet, trouble)
    assert result.ret == 11
    result.stdout.fnmatch_lines([f"*{message}*"])
    assert duet.worktrees() == []


def test_a_process_that_hangs(duet: DuetProject) -> None:
    """It is killed after the time limit of the ini file, which the message names."""
    ini = "[pytest]\npagedkv_suite = false\npythonpath = .\npagedkv_duet_timeout_s = 4\n"
    duet.project.write("tox.ini", ini)
    result = broken_base(duet, "time.sleep(1000)")
    assert result.ret == 11
    result.stdout.fnmatch_lines(
        [
            "*base's timing process has said nothing for 4 s and was killed*pagedkv_duet_timeout_s*",
            '*trouble.py", line * in trouble',
        ]
    )
    assert duet.worktrees() == []


def test_a_process_that_fails_its_test(duet: DuetProject) -> None:
    """The others go on; this one is not compared."""
    result = broken_base(duet, "raise RuntimeError('not today')")
    assert result.ret == 0
    result.stdout.fnmatch_lines([" note *incomparable: *failed in the base's timing process: *not today*"])


def test_rubbish_on_the_pipe(duet: DuetProject) -> None:
    """Code that writes into every descriptor it finds."""
    duet.project.write("vandal.py", VANDAL)
    result = broken_base(duet, "import vandal; vandal.write()")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*the base's timing process says what cannot be understood: *rubbish*"])


VANDAL = """
import contextlib, os, stat

def write():
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"rubbish\\n")
"""


def test_what_a_benchmark_prints_does_not_matter(duet: DuetProject) -> None:
    """The protocol has pipes of its own."""
    noisy = BENCHMARK.replace("(engine.work)", '(lambda: (print(\'{"is": "over"}\'), engine.work()))')
    duet.project.write("test_engine.py", noisy)
    duet.commit()
    assert duet.project.perf("--pagedkv-against=main", "-s").ret == 0


@pytest.mark.parametrize(
    ("number", "hangs_at_ns", "num_worktrees"),
    [
        (
            signal.SIGINT,
            3_000_000,
            1,
        ),  # after one call for the counters and one to be warm: it is being timed
        (signal.SIGTERM, 3_000_000, 1),
        (signal.SIGKILL, 3_000_000, 1),
        (signal.SIGKILL, 0, 0),  # it is being counted
    ],
    ids=["interrupt", "terminate", "kill", "kill-counting"],
)
def test_an_interrupted_run_leaves_nothing(
    duet: DuetProject, number: signal.Signals, hangs_at_ns: int, num_worktrees: int
) -> None:
    """Neither worktree nor process nor temporary folder, whatever ends the run, while a benchmark hangs."""
    temporary = duet.path / "temporary"
    temporary.mkdir()
    pids = duet.path / "pids"
    pids.mkdir()
    duet.project.write("engine.py", HANGING.replace("HANGS_AT_NS", str(hangs_at_ns)))
    duet.commit()
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-p", "pytest_pagedkv.plugin"),
            *("--pagedkv-perf", "--pagedkv-against=main"),
        ],
        cwd=duet.path,
        env=os.environ | {"TMPDIR": str(temporary), "PIDS": str(pids)},
        stdout=subprocess.DEVNULL,
        # what a shell starts in the background ignores interrupts, and so does all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: any(pids.iterdir()))
    hanging = [int(path.name) for path in pids.iterdir()]
    assert len(duet.worktrees()) == num_worktrees
    run.send_signal(number)
    run.wait(_PATIENCE_S)
    wait_for(lambda: not any(map(is_running, hanging)))
    wait_for(lambda: not duet.worktrees() and not list(temporary.glob("pagedkv-*")))


HANGING = """
import os, pathlib, time

NOW = 0

def work():
    global NOW
    NOW += 1_000_000
    if NOW > HANGS_AT_NS:
        (pathlib.Path(os.environ["PIDS"]) / str(os.getpid())).touch()
        time.sleep(1000)
"""


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """A process of this number is there, and is no zombie."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
