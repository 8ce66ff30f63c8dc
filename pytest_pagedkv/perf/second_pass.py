"""Counting a second time, in a process with another hash seed, to refuse what depends on luck."""

import json
import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from tempfile import mkdtemp

import pytest

from pytest_pagedkv.baselines import SecondPass, hash_seed
from pytest_pagedkv.perf.caretaker import Caretaker
from pytest_pagedkv.perf.child import child_arguments

__all__ = ["run_second_pass"]

_TAIL_LINES = 25


def run_second_pass(config: pytest.Config, keys: Collection[str] | None, timeout_s: int) -> SecondPass:
    """Run the same pytest command in a child that only counts.

    Args:
        config: of this session.
        keys: the benchmarks to count; None leaves the selection to the child.
        timeout_s: when to give up.

    Raises:
        pytest.UsageError: the child broke; says how, with the end of its output.
    """
    seed = "1" if hash_seed() == "0" else "0"
    _announce(config, f"pagedkv: counting under PYTHONHASHSEED={seed} first, in a second process ...")
    with Caretaker() as caretaker:
        folder = Path(mkdtemp(prefix="pagedkv-"))
        caretaker.watch_folder(folder)
        (folder / "wanted.json").write_text(json.dumps(None if keys is None else sorted(keys)))
        ending = _run_child(config, folder, seed, timeout_s, caretaker)
        counted = folder / "counted.json"
        if not counted.exists():
            raise pytest.UsageError(
                f"the second counting pass (PYTHONHASHSEED={seed}) broke: {ending}; no test was run. "
                f"The end of its output:\n{_tail(folder)}"
            )
        return SecondPass(seed, **json.loads(counted.read_text()))


def _run_child(config: pytest.Config, folder: Path, seed: str, timeout_s: int, caretaker: Caretaker) -> str:
    """Start the child and wait; returns how it ended. What it has started ends with the caretaker."""
    environment = os.environ | {"PYTHONHASHSEED": seed, "PAGEDKV_COUNTING_FOLDER": str(folder)}
    with (folder / "output.txt").open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - the user's own command
            child_arguments(config, folder / "cache"),
            cwd=config.invocation_params.dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    caretaker.watch_process(child.pid)
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return f"it took more than {timeout_s} s (ini: pagedkv_second_pass_timeout_s)"
    finally:
        child.kill()
        child.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _announce(config: pytest.Config, line: str) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.ensure_newline()
        terminal.write_line(line)


def _tail(folder: Path) -> str:
    lines = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:])
