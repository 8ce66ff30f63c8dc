"""What all commands have in common: exit codes, and where messages go."""

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pagedkv.cli import replay
from pagedkv.cli.app import COMMANDS
from tests.cli.conftest import Pagedkv


def test_version(pagedkv: Pagedkv) -> None:
    """`--version` prints the version of the installed package."""
    assert pagedkv("--version") == (0, f"pagedkv {version('pagedkv')}\n", "")


def test_help_lists_the_commands(pagedkv: Pagedkv) -> None:
    """`--help` names every command."""
    found = pagedkv("--help")

    names = [str(command).split("'")[1].rpartition(".")[2] for command in COMMANDS]
    assert found.code == 0
    assert "replay" in names
    assert [name for name in names if f"    {name} " not in found.stdout] == []


@pytest.mark.parametrize("arguments", [(), ("reply",), ("replay",), ("replay", "x", "--nope")])
def test_wrong_usage(pagedkv: Pagedkv, arguments: tuple[str, ...]) -> None:
    """Wrong usage says so on stderr, and exits with 2."""
    found = pagedkv(*arguments)

    assert (found.code, found.stdout) == (2, "")
    assert "usage: pagedkv" in found.stderr


def test_errors_are_one_line(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """An error of ours becomes one line on stderr, without a traceback, and exit code 2."""
    found = pagedkv("replay", tmp_path / "missing", "--json")

    assert found == (2, "", f"pagedkv: {tmp_path / 'missing'}: cannot be read: No such file or directory\n")


def test_interrupt(pagedkv: Pagedkv, mooncake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command quietly with the exit code of a process that SIGINT ended."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replay, "_read", interrupted)

    assert pagedkv("replay", mooncake) == (128 + signal.SIGINT, "", "")


def test_broken_pipe(mooncake: Path) -> None:
    """A reader of stdout that has gone ends a command quietly, as SIGPIPE would."""
    command = [sys.executable, "-m", "pagedkv", "replay", str(mooncake), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""

    assert process.returncode == 128 + signal.SIGPIPE


def test_module_is_the_command(mooncake: Path) -> None:
    """`python -m pagedkv` is the same command, and needs neither torch nor a terminal."""
    program = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv[0] = 'pagedkv';"
        "runpy.run_module('pagedkv', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "replay", str(mooncake)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stderr) == (0, "")
    assert "hit ratio" in found.stdout
