"""This session's pytest command, run again in other processes, and what they left to say."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_pagedkv.perf.caretaker import Caretaker

__all__ = ["TAIL_LINES", "child_arguments", "ending", "run_counting", "tail"]

TAIL_LINES = 25
"""So many lines of a process's output are shown."""


def child_arguments(
    config: pytest.Config,
    cache: Path,
    *options: str,
    python: str = sys.executable,
    given: Sequence[str] | None = None,
) -> list[str]:
    """This session's command line, with the last word on what takes effect before our plugin can.

    Args:
        config: of this session.
        cache: folder for pytest's cache there.
        *options: further ones.
        python: the interpreter.
        given: what the user gave, where it is to be changed.
    """
    option = config.option
    here = str(config.invocation_params.dir)
    given = [str(argument) for argument in config.invocation_params.args] if given is None else given
    end = given.index("--") if "--" in given else len(given)
    return [
        python,
        *([] if here in sys.path or "" in sys.path else ["-P"]),
        *("-m", "pytest"),
        *given[:end],
        *(["-n0"] if hasattr(option, "numprocesses") else []),
        *(["--no-cov"] if hasattr(option, "no_cov") else []),
        *(["-o", f"cache_dir={cache}"] if config.pluginmanager.hasplugin("cacheprovider") else []),
        *options,
        *given[end:],
    ]


def run_counting(
    config: pytest.Config,
    folder: Path,
    seed: str,
    timeout_s: int,
    caretaker: Caretaker,
    tool: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Run this session's command in a process that only counts, and wait for it.

    Args:
        config: of this session.
        folder: names the benchmarks, and takes what was counted.
        seed: the hash seed there.
        timeout_s: when to give up.
        caretaker: ends what the process has started.
        tool: the command that runs it.

    Returns:
        How it ended, and the lines that it printed.
    """
    output = folder / "output.txt"
    with output.open("wb") as file:
        child = subprocess.Popen(  # noqa: S603 - the user's own command
            [*tool, *child_arguments(config, folder / "cache")],
            cwd=config.invocation_params.dir,
            env=os.environ | {"PYTHONHASHSEED": seed, "PAGEDKV_COUNTING_FOLDER": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    caretaker.watch_process(child.pid)
    try:
        ended = ending(child.wait(timeout_s))
    except subprocess.TimeoutExpired:
        ended = f"it took more than {timeout_s} s (ini: pagedkv_second_pass_timeout_s)"
    finally:
        child.kill()
        child.wait()
    return ended, output.read_text(encoding="utf-8", errors="replace").splitlines()


def ending(code: int) -> str:
    """How a process ended, in words: "signal 9", "exit code 3"."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def tail(lines: Sequence[str]) -> str:
    """The last lines of a process's output, each one on a line of its own and marked."""
    return "".join(f"\n  | {line}" for line in lines[-TAIL_LINES:])
