"""`pagedkv report`: a run file as a page, as markdown, or as annotations."""

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
Show what `pytest --pagedkv-perf` found, out of the file .pagedkv-perf/run.json that it leaves: as one page of
HTML that needs no other file (html), as markdown for a step summary (markdown) or for the one comment on a
pull request (comment), or as workflow commands that mark lines on GitHub (annotations)."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv report`."""
    parser = commands.add_parser("report", help="a performance run, to look at", description=_DESCRIPTION)
    parser.add_argument("run_file", metavar="RUN.json", help="the run, such as .pagedkv-perf/run.json")
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
        ConfigError: options contradict each other.
    """
    from pytest_pagedkv.report.loading import load_run

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
    data = load_run(source, arguments.run_file)
    text = _rendered(data, arguments.format, arguments.key)
    if arguments.output is None:
        _print(text, arguments.format)
    else:
        _write(Path(arguments.output), source, text)
    if arguments.json:
        print_json(_described(arguments, data, text))
    return 0


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


def _described(arguments: argparse.Namespace, data: Mapping[str, Any], text: str) -> dict[str, object]:
    from pytest_pagedkv.report.runfile import Run
    from pytest_pagedkv.report.status import by_status, headline

    view = Run.from_plain(data)
    return {
        "report": arguments.output,
        "format": arguments.format,
        "bytes": len(text.encode()),
        "headline": headline(view),
        "benchmarks": {word.value: len(found) for word, found in by_status(view).items()},
    }
