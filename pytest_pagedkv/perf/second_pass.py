"""Counting a second time, in a process with another hash seed, to refuse what depends on luck."""

import json
from collections.abc import Collection
from pathlib import Path
from tempfile import mkdtemp

import pytest

from pytest_pagedkv.baselines import SecondPass, hash_seed
from pytest_pagedkv.perf.caretaker import Caretaker
from pytest_pagedkv.perf.child import run_counting, tail

__all__ = ["run_second_pass"]


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
        ended, output = run_counting(config, folder, seed, timeout_s, caretaker)
        counted = folder / "counted.json"
        if not counted.exists():
            raise pytest.UsageError(
                f"the second counting pass (PYTHONHASHSEED={seed}) broke: {ended}; no test was run. "
                f"The end of its output:{tail(output)}"
            )
        return SecondPass(seed, **json.loads(counted.read_text()))


def _announce(config: pytest.Config, line: str) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.ensure_newline()
        terminal.write_line(line)
