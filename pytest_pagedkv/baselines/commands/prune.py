"""`pagedkv baselines prune`: drop what belongs to nothing any more."""

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest_pagedkv
from pagedkv.cli.output import Line, print_json, print_lines
from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.commands.runfile import DEFAULT_RUN, RunFile, read_run
from pytest_pagedkv.baselines.commands.snapshot import check_folder, folder_snapshot
from pytest_pagedkv.baselines.commands.text import name_lines
from pytest_pagedkv.baselines.commands.writing import drop
from pytest_pagedkv.baselines.wording import counted

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Drop baselines whose test file is gone, baselines of tests that the last run found to be gone (if there is a
run file, and the test file was not touched since), and temporary files of writers that were killed."""

_SUITE = "pytest_pagedkv/suite/"
_TEMPORARY = re.compile(r"\..+\.json\.([0-9]+)\.tmp")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv baselines prune`."""
    parser = commands.add_parser("prune", help="drop baselines whose test is gone", description=_DESCRIPTION)
    parser.add_argument(
        "run_file", metavar="RUN.json", nargs="?", help=f"default: {DEFAULT_RUN}, if it exists"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be dropped")
    parser.add_argument("--root", metavar="DIR", help="pytest's root directory (default: where --dir lies)")
    parser.add_argument(
        "--dir", metavar="DIR", default="perf_baselines", help="the folder to clean (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be dropped, and what is left although it may look as if it should be.

    Attributes:
        dropped: why, by benchmark.
        kept: why, by benchmark or file.
        temporary: files that a killed writer left.
    """

    dropped: dict[str, str]
    kept: dict[str, str]
    temporary: list[Path]


def run(arguments: argparse.Namespace) -> int:
    """Find what to drop, and drop it.

    Raises:
        BaselineError: a file cannot be read or written, or no stored benchmark has its test file.
    """
    folder = Path(arguments.dir)
    check_folder(folder, arguments.dir)
    keys = sorted({place.key for place in folder_snapshot(folder, arguments.dir).entries})
    root = folder.resolve().parent if arguments.root is None else Path(arguments.root)
    dropped, kept = _without_file(keys, root), dict[str, str]()
    if (run_file := _run_file(arguments.run_file)) is not None:
        _add_stale(run_file, [key for key in keys if key not in dropped], root, dropped, kept)
    plan = _Plan(dropped=dropped, kept=kept, temporary=_leftovers(folder, kept))
    if not arguments.dry_run:
        drop(folder, arguments.dir, plan.dropped)
        for path in plan.temporary:
            path.unlink(missing_ok=True)
    if arguments.json:
        print_json(_as_json(plan, is_done=not arguments.dry_run))
    else:
        print_lines(_lines(plan, is_done=not arguments.dry_run))
    return 0


def _run_file(path: str | None) -> RunFile | None:
    if path is None and not Path(DEFAULT_RUN).exists():
        return None
    return read_run(Path(path or DEFAULT_RUN), path or DEFAULT_RUN)


def _without_file(keys: list[str], root: Path) -> dict[str, str]:
    """The benchmarks whose test file is gone, and why they are dropped.

    Raises:
        BaselineError: no test file is there at all, so that the root must be wrong.
    """
    gone = [key for key in keys if not _test_file(key, root).exists()]
    foreign = [key for key in keys if not key.startswith(_SUITE)]
    if foreign and set(foreign) <= set(gone):
        raise BaselineError(
            f"no test file of the stored benchmarks exists under {root}; {foreign[0]!r} is one of "
            f"{len(foreign)}: name pytest's root directory with --root"
        )
    return {key: f"{key.partition('::')[0]} is gone" for key in gone}


def _add_stale(
    run_file: RunFile, keys: list[str], root: Path, dropped: dict[str, str], kept: dict[str, str]
) -> None:
    """Add what a run found stale, unless its test file changed since."""
    for key in sorted(set(keys) & set(run_file.stale)):
        if _is_newer(_test_file(key, root), run_file.finished):
            kept[key] = f"its test file changed after {run_file.shown} found it gone; run the tests again"
        else:
            dropped[key] = f"its test is gone, as {run_file.shown} of {run_file.finished} found"


def _leftovers(folder: Path, kept: dict[str, str]) -> list[Path]:
    """The temporary files of writers that are no more; those of the others are added to what is kept."""
    found = {path: _TEMPORARY.fullmatch(path.name) for path in sorted(folder.rglob(".*.tmp"))}
    alive = [path for path, match in found.items() if match and _is_running(int(match[1]))]
    kept |= {path.as_posix(): "the process that writes it still runs" for path in alive}
    return [path for path, match in found.items() if match and path not in alive]


def _test_file(key: str, root: Path) -> Path:
    """Where a benchmark's test is; bytes of a name that are no text are spelled out in the key."""
    file = re.sub(r"\\u(dc[89a-f][0-9a-f])", lambda found: chr(int(found[1], 16)), key.partition("::")[0])
    if file.startswith(_SUITE):
        return Path(pytest_pagedkv.__file__).with_name("suite") / file.removeprefix(_SUITE)
    return root / file


def _is_newer(path: Path, finished: str) -> bool:
    """The file changed after that time, or nobody knows."""
    try:
        return path.stat().st_mtime > datetime.fromisoformat(finished).timestamp()
    except (OSError, ValueError):
        return True


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _lines(plan: _Plan, *, is_done: bool) -> Iterator[Line]:
    for key, why in plan.dropped.items():
        yield from name_lines("dropped" if is_done else "drop", key)
        yield [(f"  {why}", "")]
    for key, why in plan.kept.items():
        yield from name_lines("kept", key)
        yield [(f"  {why}", "")]
    for path in plan.temporary:
        yield [(f"{'removed' if is_done else 'remove'}  {path}, which a killed writer left", "")]
    files = counted(len(plan.temporary), "temporary file")
    told = f"{counted(len(plan.dropped), 'benchmark')} and {files}"
    yield [(f"{told} dropped" if is_done else f"{told} would be dropped; nothing was changed", "bold")]


def _as_json(plan: _Plan, *, is_done: bool) -> dict[str, object]:
    return {
        "dry_run": not is_done,
        "dropped": plan.dropped,
        "kept": plan.kept,
        "temporary_files": [path.as_posix() for path in plan.temporary],
    }
