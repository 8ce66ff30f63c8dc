"""`pagedkv baselines accept`: store what a finished run counted."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from pagedkv.cli.output import Line, print_json, print_lines
from pagedkv.errors import BaselineError, ConfigError
from pytest_pagedkv.baselines.commands.runfile import DEFAULT_RUN, Measurement, RunFile, read_run
from pytest_pagedkv.baselines.commands.text import name_lines
from pytest_pagedkv.baselines.commands.writing import write_all
from pytest_pagedkv.baselines.compare import Judgement, Verdict, judge
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.store import Baselines

__all__ = ["add_parser", "run"]

_DESCRIPTION = f"""\
Store what a finished run counted as the new baselines, without running anything. Nothing is stored of a
benchmark that did not pass (other than for the gate) or whose counters are nondeterministic. Where a stored
line changes, --reason says why; the file keeps it. The run file is {DEFAULT_RUN} unless the first
argument is another."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv baselines accept`."""
    parser = commands.add_parser("accept", help="store what a finished run counted", description=_DESCRIPTION)
    parser.add_argument(
        "words", metavar="[RUN.json] NODEID", nargs="*", help="benchmarks, as the report names them"
    )
    parser.add_argument("--all", action="store_true", help="every benchmark of the run that can be stored")
    parser.add_argument("--reason", metavar="TEXT", help="why the change is right")
    parser.add_argument(
        "--dir", metavar="DIR", default="perf_baselines", help="the folder to write to (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


@dataclass(slots=True, kw_only=True)
class _Plan:
    """What is to be done with the benchmarks that were asked for."""

    accepted: dict[str, Judgement] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


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
    baselines = Baselines(Path(arguments.dir), arguments.dir)
    wanted = run_file.measurements.values() if arguments.all else _named(run_file, names)
    plan = _plan(wanted, baselines)
    if plan.refused and not arguments.all:
        raise BaselineError(_refusal(plan))
    reason = _checked_reason(arguments.reason, plan)
    counted = {key: run_file.measurements[key].counters or {} for key in plan.accepted}
    files = write_all(baselines, {key: Entry(counters, reason) for key, counters in counted.items()})
    if arguments.json:
        print_json(_as_json(run_file, plan, files))
    else:
        print_lines(_lines(run_file, plan, files))
    return 0


def _split(words: list[str]) -> tuple[str, list[str]]:
    """The run file, and the benchmarks: their names have a double colon."""
    if words and "::" not in words[0]:
        return words[0], words[1:]
    return DEFAULT_RUN, words


def _named(run_file: RunFile, names: list[str]) -> list[Measurement]:
    by_nodeid = {each.nodeid: each for each in run_file.measurements.values()}
    return [
        run_file.measurements.get(name) or by_nodeid.get(name) or _unknown(run_file, name)
        for name in dict.fromkeys(names)
    ]


def _unknown(run_file: RunFile, name: str) -> Measurement:
    keys = run_file.measurements.keys()
    near = get_close_matches(name, keys, n=3, cutoff=0.4) or sorted(keys)[:3]
    raise BaselineError(
        f"{run_file.shown} has no benchmark {name!r}; "
        + (f"near ones: {', '.join(near)}" if near else "it has none at all")
    )


def _plan(wanted: Iterable[Measurement], baselines: Baselines) -> _Plan:
    plan = _Plan()
    for each in wanted:
        judgement = judge(each.counters or {}, baselines.get(each.key))
        if each.refusal is not None:
            plan.refused[each.key] = each.refusal
        elif judgement.verdict is Verdict.SAME:
            plan.same.append(each.key)
        else:
            plan.accepted[each.key] = judgement
    return plan


def _refusal(plan: _Plan) -> str:
    told = "; ".join(f"{key}: {why}" for key, why in plan.refused.items())
    return f"not accepted, and nothing is written: {told}"


def _checked_reason(reason: str | None, plan: _Plan) -> str | None:
    changed = [key for key, judgement in plan.accepted.items() if judgement.verdict is not Verdict.NEW]
    if reason is not None and not reason.strip():
        raise ConfigError("--reason is empty; say in a few words why the change is right")
    if reason is None and changed:
        more = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise ConfigError(f"a stored baseline would change ({changed[0]}{more}): say why with --reason TEXT")
    return reason


def _lines(run_file: RunFile, plan: _Plan, files: list[str]) -> Iterator[Line]:
    yield [(f"{run_file.shown}, a run of {run_file.finished}", "bold")]
    for key, judgement in plan.accepted.items():
        yield from name_lines(judgement.verdict, key)
        yield from ([(f"  {detail}", "")] for detail in judgement.details)
    for key, why in plan.refused.items():
        yield from name_lines("refused", key)
        yield [(f"  {why}", "")]
    yield from ([(f"stored in {file}", "")] for file in files)
    yield [(f"{len(plan.accepted)} stored, {len(plan.same)} same, {len(plan.refused)} refused", "bold")]


def _as_json(run_file: RunFile, plan: _Plan, files: list[str]) -> Mapping[str, object]:
    return {
        "run": run_file.shown,
        "finished": run_file.finished,
        "accepted": {
            key: {"verdict": judgement.verdict, "details": list(judgement.details)}
            for key, judgement in plan.accepted.items()
        },
        "same": plan.same,
        "refused": plan.refused,
        "files": files,
    }
