"""`pagedkv baselines list`: what is stored."""

import argparse
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from pagedkv.cli.output import Line, print_json, print_lines
from pytest_pagedkv.baselines.commands.moves import as_json, size
from pytest_pagedkv.baselines.commands.snapshot import (
    Place,
    Snapshot,
    Stored,
    check_folder,
    folder_snapshot,
)
from pytest_pagedkv.baselines.wording import counted

__all__ = ["add_parser", "run"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv baselines list`."""
    parser = commands.add_parser(
        "list", help="what is stored", description="List what is stored, by kind, environment and test file."
    )
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", default="perf_baselines", help="default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, and print.

    Raises:
        BaselineError: the folder or one of its files cannot be read.
    """
    folder = Path(arguments.dir)
    check_folder(folder, arguments.dir)
    stored = folder_snapshot(folder, arguments.dir)
    if arguments.json:
        print_json(_as_json(stored))
    else:
        print_lines(_lines(stored))
    return 0


def _lines(stored: Snapshot) -> Iterator[Line]:
    for (kind, environment), entries in _groups(stored):
        yield [(" ".join(filter(None, (kind, environment))), "bold"), (f"   {_total(entries)}", "dim")]
        for file, tests in groupby(sorted(entries), lambda place: place.key.partition("::")[0]):
            yield [(f" {file}", "")]
            yield from _table({place.key.partition("::")[2]: entries[place] for place in tests})
    if not stored.entries:
        yield [(f"{stored.label}: no benchmark", "")]


def _table(entries: Mapping[str, Stored]) -> Iterator[Line]:
    width = max(map(len, entries))
    for test, entry in entries.items():
        yield [(f"   {test:<{width}}", ""), (f"  {size(entry)}", "dim")]
        if entry.reason is not None:
            yield [(f"     reason: {entry.reason}", "")]


def _groups(stored: Snapshot) -> Iterator[tuple[tuple[str, str], dict[Place, Stored]]]:
    for group, places in groupby(sorted(stored.entries), lambda place: (place.kind, place.environment)):
        yield group, {place: stored.entries[place] for place in places}


def _total(entries: Mapping[Place, Stored]) -> str:
    return counted(len(entries), "benchmark")


def _as_json(stored: Snapshot) -> dict[str, object]:
    return {
        "directory": stored.label,
        "benchmarks": [
            {
                "kind": place.kind,
                "environment": place.environment or None,
                "benchmark": place.key,
                **(as_json(entry) or {}),
            }
            for place, entry in sorted(stored.entries.items())
        ],
    }
