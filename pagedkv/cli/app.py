"""`main`: find the command, run it, turn what goes wrong into a message and an exit code."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from pagedkv.cli import bench, debug, doctor, generate, inspect, pitfalls, replay, top, workload
from pagedkv.cli.command import Command
from pagedkv.cli.installed import add_installed
from pagedkv.cli.output import printable
from pagedkv.errors import PagedKVError

__all__ = ["COMMANDS", "main"]

_EXIT_ERROR = 2
_EXIT_INTERRUPTED = 130  # as a shell reports a process that SIGINT ended
_EXIT_BROKEN_PIPE = 141  # likewise SIGPIPE
_OF_A_MODEL = ("--model", "--prompt", "--token-ids")  # options that no trace has


COMMANDS: Mapping[str, Command] = {
    "generate": generate,
    "replay": replay,
    "workload": workload,
    "pitfalls": pitfalls,
    "bench": bench,
    "doctor": doctor,
    "inspect": inspect,
    "debug": debug,
    "top": top,
}
"""The commands of this package by name, in the order in which the help lists them; others are installed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; by default that of this process.

    Returns:
        The exit code: 0 on success, 2 for wrong arguments or input, or if memory or room for the output ran
        out, 130 after Ctrl-C, 141 if whoever read the output has gone.
    """
    try:
        return _run(argv)
    except PagedKVError as error:
        return _failed(str(error))
    except MemoryError as error:
        return _failed(f"out of memory: {str(error) or 'none is left'}; a shorter trace needs less")
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return _EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None:  # files that we open by name have one
            _drop_stdout()
        return _failed(f"{error.filename or 'stdout'}: cannot be written: {error.strerror}")


def _run(argv: Sequence[str] | None) -> int:
    """Parse, run, and flush, also where argparse ends the process after it has printed."""
    try:
        given = _respelt(sys.argv[1:] if argv is None else argv)
        command = next((word for word in given if not word.startswith("-")), "")
        arguments = _parser(command).parse_args(given)
        code: int = arguments.run(arguments)
    finally:
        sys.stdout.flush()
    return code


def _respelt(words: Sequence[str]) -> Sequence[str]:
    """The words of a command line; `generate PRESET`, an older spelling, as `workload PRESET`."""
    if not words or words[0] != "generate" or any(word.startswith(_OF_A_MODEL) for word in words):
        return words
    from pagedkv.traces.workload import PRESETS

    return ["workload", *words[1:]] if any(word in PRESETS for word in words) else words


def _failed(message: str) -> int:
    """Say what went wrong, on one line."""
    sys.stderr.write(f"pagedkv: {printable(message)}\n")
    return _EXIT_ERROR


def _parser(wanted: str) -> argparse.ArgumentParser:
    """The parser of all commands; where one of ours is wanted, other packages are not looked for."""
    parser = argparse.ArgumentParser(
        prog="pagedkv", description="Paged KV caches: what one does under real traffic, and what changed."
    )
    parser.add_argument("--version", action="version", version=f"pagedkv {version('pagedkv')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_parser(commands)
    if wanted not in COMMANDS:
        add_installed(commands, COMMANDS, wanted)
    return parser


def _drop_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
