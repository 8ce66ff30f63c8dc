"""Counting a second time, in a process with another hash seed, to refuse what depends on luck."""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

__all__ = ["SecondPass", "hash_seed", "run_second_pass"]

_TAIL_LINES = 25


@dataclass(frozen=True, slots=True)
class SecondPass:
    """What the other process counted.

    Attributes:
        hash_seed: its PYTHONHASHSEED.
        counters: by benchmark, of those that passed there.
        problems: by benchmark, why one of the others has no counters.
    """

    hash_seed: str
    counters: Mapping[str, Mapping[str, int]]
    problems: Mapping[str, str]

    def disagreement(self, key: str, counters: Mapping[str, int]) -> tuple[str, ...]:
        """One line for each counter that this process counted differently."""
        if key not in self.counters:
            problem = self.problems.get(key, "was not collected")
            return (f"passed under {_seed(hash_seed())}, under {_seed(self.hash_seed)} it {problem}",)
        there = self.counters[key]
        return tuple(
            f"nondeterministic counter {name}: {_shown(counters.get(name))} under {_seed(hash_seed())}, "
            f"{_shown(there.get(name))} under {_seed(self.hash_seed)}"
            for name in sorted(counters.keys() | there.keys())
            if counters.get(name) != there.get(name)
        )


def hash_seed() -> str:
    """This process's PYTHONHASHSEED."""
    return os.environ.get("PYTHONHASHSEED") or "random"


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
    with TemporaryDirectory(prefix="pagedkv-") as name:
        folder = Path(name)
        (folder / "wanted.json").write_text(json.dumps(None if keys is None else sorted(keys)))
        ending = _run_child(config, folder, seed, timeout_s)
        counted = folder / "counted.json"
        if not counted.exists():
            raise pytest.UsageError(
                f"the second counting pass (PYTHONHASHSEED={seed}) broke: {ending}; no test was run. "
                f"The end of its output:\n{_tail(folder)}"
            )
        return SecondPass(seed, **json.loads(counted.read_text()))


def _run_child(config: pytest.Config, folder: Path, seed: str, timeout_s: int) -> str:
    """Start the child and wait; returns how it ended."""
    environment = os.environ | {"PYTHONHASHSEED": seed, "PAGEDKV_COUNTING_FOLDER": str(folder)}
    try:
        with (folder / "output.txt").open("wb") as output:
            done = subprocess.run(  # noqa: S603 - the user's own command
                _command(config, folder),
                cwd=config.invocation_params.dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return f"it took more than {timeout_s} s (ini: pagedkv_second_pass_timeout_s)"
    return f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"


def _command(config: pytest.Config, folder: Path) -> list[str]:
    """This session's command line, with the last word on what takes effect before our plugin can."""
    option = config.option
    here = str(config.invocation_params.dir)
    given = [str(argument) for argument in config.invocation_params.args]
    end = given.index("--") if "--" in given else len(given)
    return [
        sys.executable,
        *([] if here in sys.path or "" in sys.path else ["-P"]),
        *("-m", "pytest"),
        *given[:end],
        *(["-n0"] if hasattr(option, "numprocesses") else []),
        *(["--no-cov"] if hasattr(option, "no_cov") else []),
        *(["-o", f"cache_dir={folder / 'cache'}"] if config.pluginmanager.hasplugin("cacheprovider") else []),
        *given[end:],
    ]


def _announce(config: pytest.Config, line: str) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.ensure_newline()
        terminal.write_line(line)


def _tail(folder: Path) -> str:
    lines = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:])


def _seed(value: str) -> str:
    return f"PYTHONHASHSEED={value}"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
