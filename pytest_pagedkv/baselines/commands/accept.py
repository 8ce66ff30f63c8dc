"""`pagedkv baselines accept`: store what a finished run measured."""

import argparse
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from pagedkv.cli.output import Line, print_json, print_lines
from pagedkv.errors import BaselineError, ConfigError
from pytest_pagedkv.baselines.commands.acceptance import Acceptance
from pytest_pagedkv.baselines.commands.runfile import DEFAULT_RUN, Measurement, RunFile, read_run
from pytest_pagedkv.baselines.commands.text import name_lines

__all__ = ["add_parser", "run"]

_DESCRIPTION = f"""\
Store what a finished run counted and timed as the new baselines, without running anything. Nothing is stored
of a benchmark that did not pass (other than for the gate) or whose counters are nondeterministic. Where a
stored line changes, --reason says why; the file keeps it. The run file is {DEFAULT_RUN} unless the first
argument is another."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv baselines accept`."""
    parser = commands.add_parser(
        "accept",
        help="store what a finished run measured",
        description=_DESCRIPTION,
        usage="%(prog)s [RUN.json] (NODEID... | --all) [--reason TEXT] [options]",
    )
    parser.add_argument("words", metavar="NODEID", nargs="*", help="benchmarks, as the report names them")
    parser.add_argument("--all", action="store_true", help="every benchmark of the run that can be stored")
    parser.add_argument("--reason", metavar="TEXT", help="why the change is right")
    parser.add_argument(
        "--dir", metavar="DIR", default="perf_baselines", help="the folder to write to (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then write.

    Raises:
        ConfigError: it is not said what to accept, or why.
        BaselineError: a benchmark that was named cannot be accepted, and nothing is written; or a file cannot
            be read or written.
    """
    path, names = _split(arguments.words)
    if bool(names) == arguments.all:
        raise ConfigError("name the benchmarks to accept, or give --all for every one of the run; not both")
    run_file = read_run(Path(path), path)
    acceptance = Acceptance(run_file, Path(arguments.dir), arguments.dir)
    acceptance.add(run_file.measurements.values() if arguments.all else _named(run_file, names))
    if acceptance.refused and not arguments.all:
        told = "; ".join(f"{key}: {why}" for key, why in acceptance.refused.items())
        raise BaselineError(f"not accepted, and nothing is written: {told}")
    files = acceptance.write(_checked_reason(arguments.reason, acceptance.changed))
    if arguments.json:
        print_json(_as_json(run_file, acceptance, files))
    else:
        print_lines(_lines(run_file, acceptance, files))
    return 0


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The run file, and the benchmarks: their names have a double colon."""
    if words and "::" not in words[0]:
        return words[0], words[1:]
    return DEFAULT_RUN, words


def _named(run_file: RunFile, names: list[str]) -> list[Measurement]:
    by_nodeid = {each.nodeid: each for each in run_file.measurements.values()}
    found = {}
    for name in names:
        each = run_file.measurements.get(name) or by_nodeid.get(name)
        if each is None:
            raise BaselineError(_unknown(run_file, name))
        found[each.key] = each
    return list(found.values())


def _unknown(run_file: RunFile, name: str) -> str:
    keys = run_file.measurements.keys()
    near = get_close_matches(name, keys, n=3, cutoff=0.4) or sorted(keys)[:3]
    told = f"near ones: {', '.join(near)}" if near else "it has none at all"
    return f"{run_file.shown} has no benchmark {name!r}; {told}"


def _checked_reason(reason: str | None, changed: list[str]) -> str | None:
    if reason is not None and not reason.strip():
        raise ConfigError("--reason is empty; say in a few words why the change is right")
    if reason is None and changed:
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise ConfigError(
            f"a stored baseline would change ({changed[0]}{more}): say why with --reason TEXT; "
            "nothing is written"
        )
    return reason


def _lines(run_file: RunFile, acceptance: Acceptance, files: list[str]) -> Iterator[Line]:
    yield [(f"{run_file.shown}, a run of {run_file.finished}", "bold")]
    for key, facts in acceptance.accepted.items():
        yield from name_lines("new" if facts.is_new else "changed", key)
        yield from ([(f"  {detail}", "")] for detail in facts.details)
    for key, why in acceptance.refused.items():
        yield from name_lines("refused", key)
        yield [(f"  {why}", "")]
    yield from ([(f"stored in {file}", "")] for file in files)
    numbers = (acceptance.accepted, "stored"), (acceptance.same, "the same"), (acceptance.refused, "refused")
    yield [(", ".join(f"{len(found)} {word}" for found, word in numbers), "bold")]


def _as_json(run_file: RunFile, acceptance: Acceptance, files: list[str]) -> Mapping[str, object]:
    return {
        "run": run_file.shown,
        "finished": run_file.finished,
        "accepted": {key: facts.details for key, facts in acceptance.accepted.items()},
        "same": acceptance.same,
        "refused": acceptance.refused,
        "files": files,
    }
