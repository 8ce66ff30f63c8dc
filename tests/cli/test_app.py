"""What all commands have in common: exit codes, and where messages go."""

import os
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

    assert found.code == 0
    assert "replay" in COMMANDS
    assert [name for name in COMMANDS if f"    {name} " not in found.stdout] == []


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


@pytest.mark.parametrize(("error", "shown"), [("", "none is left"), ("Unable to", "Unable to")])
def test_out_of_memory(
    pagedkv: Pagedkv, mooncake: Path, monkeypatch: pytest.MonkeyPatch, error: str, shown: str
) -> None:
    """Memory that runs out anywhere is one line on stderr, and exit code 2."""

    def too_large(*_: object) -> None:
        raise MemoryError(*[error] if error else [])

    monkeypatch.setattr(replay, "_read", too_large)

    expected = f"pagedkv: out of memory: {shown}; a shorter trace needs less\n"
    assert pagedkv("replay", mooncake) == (2, "", expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "T"),
        ("replay", "T", "--json"),
        ("generate", "chat"),
        ("generate", "beams", "--requests", "1"),
    ],
)
def test_full_disk(mooncake: Path, arguments: tuple[str, ...], unbuffered: str) -> None:
    """Output for which there is no room is one line on stderr, and exit code 2, whenever it is flushed."""
    found = _on_full_disk([str(mooncake) if word == "T" else word for word in arguments], unbuffered)

    assert found == (2, "pagedkv: stdout: cannot be written: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is needed")
def test_full_disk_for_what_argparse_prints() -> None:
    """The same holds for the help and the version, after which argparse ends the process."""
    for option in ("--help", "--version"):
        assert _on_full_disk([option], "") == (
            2,
            "pagedkv: stdout: cannot be written: No space left on device\n",
        )


def _on_full_disk(arguments: list[str], unbuffered: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout is full."""
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "pagedkv", *arguments],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    return found.returncode, found.stderr


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_broken_pipe(mooncake: Path, more: tuple[str, ...]) -> None:
    """A reader of stdout that has gone ends a command quietly, as SIGPIPE would."""
    command = [sys.executable, "-m", "pagedkv", "replay", str(mooncake), *more]
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
