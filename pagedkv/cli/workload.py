"""`pagedkv workload`: a seeded random trace."""

import argparse
import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pagedkv.cli.arguments import natural, positive
from pagedkv.cli.output import print_json, print_table
from pagedkv.errors import ConfigError, PagedKVError

if TYPE_CHECKING:
    from pagedkv.traces import Trace

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Write a random request trace as Mooncake jsonl, which `pagedkv replay` reads. The same arguments give the same
trace on every machine. A preset is a set of defaults for the options under "workload"."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv workload`."""
    from pagedkv.traces.workload import PRESETS, Workload

    parser = commands.add_parser("workload", help="a seeded random trace", description=_DESCRIPTION)
    parser.add_argument("preset", metavar="PRESET", choices=sorted(PRESETS), help=", ".join(sorted(PRESETS)))
    parser.add_argument("--requests", type=positive, metavar="N", default=1000, help="default: %(default)s")
    parser.add_argument("--seed", type=natural, metavar="S", default=0, help="default: %(default)s")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: stdout; gzip if it ends in .gz")
    parser.add_argument("--json", action="store_true", help="with -o: describe the trace as one JSON object")
    workload = parser.add_argument_group("workload")
    for setting in fields(Workload):
        workload.add_argument(
            "--" + setting.name.replace("_", "-"),
            type=setting.type,
            metavar="N" if setting.type is int else "X",
            help=setting.metadata["about"],
        )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate, write, and say what was written.

    Raises:
        ConfigError: options contradict each other, or a setting is out of range.
    """
    from pagedkv.traces import Workload, generate, write_trace

    if arguments.json and arguments.output is None:
        raise ConfigError(
            "--json describes the trace that -o writes, and without -o the trace itself goes to stdout: "
            "add -o FILE, or leave --json out"
        )
    overrides = {
        setting.name: value
        for setting in fields(Workload)
        if (value := getattr(arguments, setting.name)) is not None
    }
    trace = generate(arguments.preset, num_requests=arguments.requests, seed=arguments.seed, **overrides)
    with _opened(arguments.output) as stream:
        write_trace(trace, stream)
    if arguments.output is not None:
        _describe(arguments, trace)
    return 0


@contextmanager
def _opened(path: str | None) -> Iterator[TextIO]:
    """The file to write, or stdout.

    Raises:
        PagedKVError: it cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    try:
        with Path(path).open("wb") as file, io.TextIOWrapper(_packed(path, file), "ascii") as text:
            yield text
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PagedKVError(f"{path}: cannot be written: {error.strerror}") from error


def _packed(path: str, file: io.BufferedWriter) -> io.BufferedWriter | gzip.GzipFile:
    """The file itself, or gzip around it, without a time stamp so that equal traces are equal files."""
    if not path.endswith(".gz"):
        return file
    return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)


def _describe(arguments: argparse.Namespace, trace: "Trace") -> None:
    requests = trace.requests
    about = {
        "requests": len(requests),
        "duration_ms": requests[-1].arrival_ms,
        "prompt_tokens": sum(r.num_prompt_tokens for r in requests),
        "output_tokens": sum(r.num_output_tokens for r in requests),
        "sessions": len({r.session_id for r in requests}),
        "block_size": trace.block_size,
    }
    if arguments.json:
        print_json(about | {"trace": arguments.output, "preset": arguments.preset, "seed": arguments.seed})
    else:
        rows = [(name.replace("_", " "), f"{value:,}") for name, value in about.items()]
        print_table(f"{arguments.output}: {arguments.preset}, seed {arguments.seed}", rows)
