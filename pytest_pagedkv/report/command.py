"""`pagedkv report`: a run as a page; a performance run as markdown or annotations, too."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pagedkv.cli.output import print_json
from pagedkv.errors import BaselineError, ConfigError

__all__ = ["FORMATS", "add_parser", "run"]

FORMATS = ("html", "markdown", "comment", "annotations")

_DESCRIPTION = """\
Show a run out of its file, as one page of HTML that needs no other file.
There are two kinds. What an engine or a simulation was like: blocks, batches, times, findings, as recorded by
`pagedkv replay --mode simulated --record`, `pagedkv generate --record` or Engine.record. And what
`pytest --pagedkv-perf` found, out of the .pagedkv-perf/run.json that it leaves; that can also be had as
markdown for a step summary (markdown) or for the one comment on a pull request (comment), or as workflow
commands that mark lines on GitHub (annotations)."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv report`."""
    parser = commands.add_parser(
        "report", help="a recorded run, or a performance run, to look at", description=_DESCRIPTION
    )
    parser.add_argument("run_file", metavar="RUN.json", help="the run")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: stdout")
    parser.add_argument("--format", choices=FORMATS, default="html", help="default: %(default)s")
    parser.add_argument("--key", default="", help="comment: one comment for each key, such as gpu-h100")
    parser.add_argument(
        "--json", action="store_true", help="with -o: describe what was written as one JSON object"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, render, write.

    Raises:
        BaselineError: the run file cannot be used, or the output not be written; then there is none.
        RecordError: likewise the record of an engine's run.
        ConfigError: options contradict each other.
    """
    from pagedkv.recording import is_run

    if arguments.key and arguments.format != "comment":
        raise ConfigError(
            f"--key names a comment, and the format is {arguments.format}: add --format comment"
        )
    if arguments.json and arguments.output is None:
        raise ConfigError(
            "--json describes the file that -o writes, and without -o the report itself goes to stdout: "
            "add -o FILE, or leave --json out"
        )
    source = Path(arguments.run_file)
    text, about = _engine_run(arguments) if is_run(source) else _perf_run(arguments, source)
    if arguments.output is None:
        _print(text, arguments.format)
    else:
        _write(Path(arguments.output), source, text)
    if arguments.json:
        written = {"report": arguments.output, "format": arguments.format, "bytes": len(text.encode())}
        print_json(written | about)
    return 0


def _engine_run(arguments: argparse.Namespace) -> tuple[str, dict[str, object]]:
    """The report of an engine's run, and what is in it."""
    from pagedkv.recording import read_run
    from pytest_pagedkv.report.engine_run import described, rendered, require_page

    require_page(arguments.format, arguments.run_file)
    record = read_run(arguments.run_file)
    return rendered(record), described(record)


def _perf_run(arguments: argparse.Namespace, source: Path) -> tuple[str, dict[str, object]]:
    """The report of a performance run, and what is in it."""
    from pytest_pagedkv.report.loading import load_run

    data = load_run(source, arguments.run_file)
    return _rendered(data, arguments.format, arguments.key), _described(data)


def _rendered(data: Mapping[str, Any], form: str, key: str) -> str:
    from pytest_pagedkv.report.annotations import annotations
    from pytest_pagedkv.report.markdown import comment, summary
    from pytest_pagedkv.report.page import render_page

    renderers: dict[str, Callable[[], str]] = {
        "html": lambda: render_page(data),
        "markdown": lambda: summary(data),
        "comment": lambda: comment(data, key),
        "annotations": lambda: "".join(f"{line}\n" for line in annotations(data)),
    }
    return renderers[form]()


def _print(text: str, form: str) -> None:
    """To stdout; what its encoding does not have becomes a reference in HTML, an escape elsewhere."""
    encoding = sys.stdout.encoding or "utf-8"
    errors = "xmlcharrefreplace" if form == "html" else "backslashreplace"
    sys.stdout.write(text.encode(encoding, errors).decode(encoding))


def _write(path: Path, source: Path, text: str) -> None:
    """The file as a whole, or not at all.

    Raises:
        BaselineError: it cannot be written, or is no file, or is the run file.
    """
    from pytest_pagedkv.baselines.folder import write_atomic

    try:
        if path.exists() and not path.is_file():
            raise BaselineError(f"{path}: is there already, and is not a file; choose another name with -o")
        if path.exists() and path.samefile(source):
            raise BaselineError(f"{path}: is the run file itself; choose another name with -o")
        write_atomic(path, text)
    except OSError as error:
        raise BaselineError(
            f"{path}: cannot be written ({error.strerror}), and is as it was; choose another name with -o"
        ) from error


def _described(data: Mapping[str, Any]) -> dict[str, object]:
    from pytest_pagedkv.report.runfile import Run
    from pytest_pagedkv.report.status import by_status, headline

    view = Run.from_plain(data)
    return {
        "headline": headline(view),
        "benchmarks": {word.value: len(found) for word, found in by_status(view).items()},
    }
