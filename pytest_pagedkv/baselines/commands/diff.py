"""`pagedkv baselines diff`: how two sets of baselines differ."""

import argparse
import sys
from pathlib import Path

from pagedkv.cli.output import print_json, print_lines
from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.commands.changes import Comparison, compare
from pytest_pagedkv.baselines.commands.runfile import DEFAULT_RUN
from pytest_pagedkv.baselines.commands.snapshot import Snapshot, folder_snapshot
from pytest_pagedkv.baselines.commands.sources import snapshot_of

__all__ = ["add_parser", "run"]

_DESCRIPTION = f"""\
Compare two sets of stored baselines, each of which is one of
  a folder   perf_baselines, ../other/perf_baselines
  a commit   main, HEAD~3, v1.0; main... is the merge base of main and HEAD,
             A...B that of A and B
  a run      {DEFAULT_RUN}, for what it measured
A alone is compared with the folder of baselines as it is now; without A, HEAD.

A name that is a path as well as a commit is the path if it contains a
separator or starts with a dot, such as ./main, and else the commit. Every
difference of a counter is shown, as "worse" or "better" where the counter's
name tells which way is good; of times, those of more than 10%."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv baselines diff`."""
    parser = commands.add_parser(
        "diff",
        help="how two folders, commits or runs differ",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", metavar="A", nargs="?", default="HEAD", help="default: %(default)s")
    parser.add_argument("after", metavar="B", nargs="?", help="default: the folder of baselines")
    parser.add_argument(
        "--dir",
        metavar="DIR",
        default="perf_baselines",
        help="the folder of baselines, here and in commits (default: %(default)s)",
    )
    parser.add_argument(
        "--format", choices=["text", "markdown", "json"], default="text", help="default: %(default)s"
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="as --format json")
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if they differ, as git diff does"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, and print.

    Raises:
        BaselineError: one of the two names nothing, or cannot be read.
    """
    before = snapshot_of(arguments.before, arguments.dir)
    if arguments.after is None:
        after = folder_snapshot(Path(arguments.dir), arguments.dir)
    else:
        after = snapshot_of(arguments.after, arguments.dir)
    _refuse_nothing(before, after, arguments.dir)
    comparison = compare(before, after)
    _print(comparison, arguments.format)
    return int(arguments.exit_code and bool(comparison.changes))


def _refuse_nothing(before: Snapshot, after: Snapshot, folder: str) -> None:
    """Two empty sets are equal, and most likely a wrong folder."""
    if not before.entries and not after.entries and not (before.notes or after.notes):
        raise BaselineError(
            f"neither {before.label} nor {after.label} has baselines in {folder}: "
            "name their folder with --dir"
        )


def _print(comparison: Comparison, form: str) -> None:
    if form == "json":
        print_json(comparison.as_json())
    elif form == "markdown":
        from pytest_pagedkv.baselines.commands.markdown import as_markdown

        sys.stdout.write(as_markdown(comparison))
    else:
        from pytest_pagedkv.baselines.commands.text import as_lines

        print_lines(as_lines(comparison))
