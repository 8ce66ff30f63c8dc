"""`pagedkv pitfalls`: fall into a pitfall, and out of it again."""

import argparse
from typing import TYPE_CHECKING, Any

from pagedkv.cli.arguments import natural
from pagedkv.cli.output import Line, print_json, print_lines, print_table
from pagedkv.errors import ConfigError

if TYPE_CHECKING:
    from pagedkv.pitfalls import Finding
    from pagedkv.scenarios import Metric, Outcome, Scenario

__all__ = ["add_parser", "finding_lines", "run"]

_DESCRIPTION = """\
Run a workload that falls into a pitfall, simulated, and say what detectors find; with --cure also under a
setting that is recommended against it, with numbers before and after. Without a name: list them. Set
PAGEDKV_LOG_LEVEL to see the log lines of the run."""
_NAMES = ("fragmentation", "cow_explosion", "batch_collapse", "offload_thrash", "latency_spike")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv pitfalls`."""
    parser = commands.add_parser(
        "pitfalls", help="fall into a pitfall, and out of it again", description=_DESCRIPTION
    )
    parser.add_argument("pitfall", metavar="NAME", nargs="?", choices=_NAMES, help=", ".join(_NAMES))
    parser.add_argument("--sick", metavar="HOW", help="which sick setup, without --cure (default: severe)")
    parser.add_argument("--cure", metavar="SETTING", help="a recommended setting, or all")
    parser.add_argument("--seed", type=natural, metavar="N", default=0, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run a scenario and print what came of it.

    Raises:
        ConfigError: there is no such scenario, sick setup or cure.
    """
    from pagedkv.pitfalls import Pitfall
    from pagedkv.scenarios import SCENARIOS

    if arguments.pitfall is None:
        return _list(arguments, SCENARIOS)
    scenario = SCENARIOS.get(Pitfall(arguments.pitfall))
    if scenario is None:
        raise ConfigError(f"there is no scenario of {arguments.pitfall}")
    answer = _sick(arguments, scenario) if arguments.cure is None else _cured(arguments, scenario)
    if arguments.json:
        print_json(answer)
    return 0


def finding_lines(findings: "tuple[Finding, ...] | list[Finding]") -> list[Line]:
    """Findings as lines of a terminal: each with its evidence and what to change."""
    if not findings:
        return [[("no finding", "green")]]
    lines: list[Line] = []
    for finding in findings:
        style = "bold red" if finding.severity.name == "CRITICAL" else "bold yellow"
        name = f"{finding.severity.name.lower()} {finding.pitfall.value}: "
        lines.append([(name, style), (finding.summary, "bold")])
        numbers = ", ".join(f"{key} {value:,.10g}" for key, value in finding.evidence.items())
        lines.append([(f"  {numbers}", "dim")])
        lines += [
            [("  change ", ""), (each.change, "bold"), (f": {each.effect}", "")] for each in finding.advice
        ]
    return lines


def _list(arguments: argparse.Namespace, scenarios: "Any") -> int:
    if arguments.json:
        print_json(
            {
                pitfall.value: {
                    "about": scenario.about,
                    "sick": list(scenario.sick),
                    "cures": [each.setting for each in scenario.cures],
                }
                for pitfall, scenario in scenarios.items()
            }
        )
        return 0
    for pitfall, scenario in scenarios.items():
        cures = ", ".join(each.setting for each in scenario.cures)
        print_lines(
            [
                [(pitfall.value, "bold")],
                [(f"  {scenario.about}", "")],
                [(f"  --sick {', '.join(scenario.sick)}", "dim")],
                [(f"  --cure {cures}", "dim")],
            ]
        )
    return 0


def _sick(arguments: argparse.Namespace, scenario: "Scenario") -> dict[str, Any]:
    from pagedkv.scenarios import run as simulate

    name = arguments.sick or "severe"
    if name not in scenario.sick:
        raise ConfigError(f"--sick {name}: {scenario.pitfall} has {', '.join(scenario.sick)}")
    outcome = simulate(scenario.sick[name], arguments.seed)
    if not arguments.json:
        rows = [(each.name, f"{each.read(outcome):,}") for each in scenario.metrics]
        print_table(f"{scenario.pitfall}, {name}, seed {arguments.seed}", rows)
        print_lines(finding_lines(outcome.findings))
    return {"pitfall": scenario.pitfall.value, "sick": name, "seed": arguments.seed} | _told(
        scenario.metrics, outcome
    )


def _cured(arguments: argparse.Namespace, scenario: "Scenario") -> dict[str, Any]:
    known = [each.setting for each in scenario.cures]
    if arguments.cure not in (*known, "all"):
        raise ConfigError(f"--cure {arguments.cure}: {scenario.pitfall} has {', '.join(known)}, and all")
    if arguments.sick is not None:
        raise ConfigError("--sick does not go with --cure: each cure says what it is tried on")
    wanted = known if arguments.cure == "all" else [arguments.cure]
    return {
        "pitfall": scenario.pitfall.value,
        "seed": arguments.seed,
        "cures": [_tried(arguments, scenario, each) for each in wanted],
    }


def _tried(arguments: argparse.Namespace, scenario: "Scenario", setting: str) -> dict[str, Any]:
    from pagedkv.scenarios import run as simulate

    cure = scenario.cure(setting)
    before = simulate(scenario.before(cure), arguments.seed)
    after = simulate(cure.setup, arguments.seed)
    if not arguments.json:
        rows = [
            (each.name, f"{each.read(before):,} \N{RIGHTWARDS ARROW} {each.read(after):,}")
            for each in scenario.metrics
        ]
        print_table(f"{scenario.pitfall}: {cure.change}{f' ({cure.note})' if cure.note else ''}", rows)
        print_lines([[("before", "underline")], *finding_lines(before.findings)])
        print_lines([[("after", "underline")], *finding_lines(after.findings), []])
    return {
        "setting": setting,
        "change": cure.change,
        "note": cure.note,
        "before": _told(scenario.metrics, before),
        "after": _told(scenario.metrics, after),
    }


def _told(metrics: "tuple[Metric, ...]", outcome: "Outcome") -> dict[str, Any]:
    return {
        "metrics": {each.name: each.read(outcome) for each in metrics},
        "findings": [each.as_dict() for each in outcome.findings],
    }
