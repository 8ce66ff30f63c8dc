"""`pagedkv doctor`: which of the five pitfalls is in a log, a snapshot or a profile."""

import argparse
import sys
from typing import TYPE_CHECKING

from pagedkv.cli.output import Line, print_json, print_lines, printable, progress_bar

if TYPE_CHECKING:
    from pagedkv.doctor import Diagnosis, FileReport
    from pagedkv.pitfalls.finding import Finding

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Look for the five pitfalls of paged KV caches, with the lines that show them and what to change.

Files are told apart by their content, gzipped or not; "-" is stdin:
  logs of pagedkv (PAGEDKV_LOG_LEVEL), vLLM and SGLang; several are parts of one, the oldest first
  engine snapshots, results of pagedkv replay --mode simulated --json
  traces of torch.profiler (Kineto), sqlite exports of Nsight Systems"""

_EPILOG = """\
Exit code: 0 if nothing was found, 1 with findings, 2 if no file could be read. docs/doctor.md has the
formats, and above which numbers something is a finding."""

_STYLES = {"critical": "bold red", "warning": "bold yellow"}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="which pitfall is in a log, a snapshot or a profile",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help='a file, or "-"')
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the files, and print what was found."""
    from pagedkv.doctor import diagnose

    with progress_bar("reading") as progress:
        found = diagnose(arguments.files, progress=progress)
    for report in found.files:
        if report.error:
            sys.stderr.write(f"pagedkv: {printable(report.file)}: {printable(report.error)}\n")
    if arguments.json:
        print_json(found.as_dict())
    else:
        _print(found)
    return found.exit_code


def _print(found: "Diagnosis") -> None:
    print_lines(line for report in found.files if not report.error for line in _file_lines(report))
    for number, finding in enumerate(found.findings, 1):
        print_lines([[], *_finding_lines(number, finding)])
    if not found.findings and any(not report.error for report in found.files):
        print_lines([[], [("nothing found", "bold green")]])


def _file_lines(report: "FileReport") -> list[Line]:
    counts = f"{report.num_read:,} read, {report.num_understood:,} of them understood"
    odd = f", {report.num_odd:,} in an unknown shape" if report.num_odd else ""
    size = f"{report.num_bytes / 1e6:,.1f} MB"
    lines: list[Line] = [[(report.file, "bold"), (f": {report.kind}, {size}, {counts}{odd}", "")]]
    return lines + [[(f"  {note}", "dim")] for note in report.notes]


def _finding_lines(number: int, finding: "Finding") -> list[Line]:
    severity = finding.severity.name.lower()
    title: Line = [
        (f"{number}. ", ""),
        (severity, _STYLES[severity]),
        (f"  {finding.pitfall.value.replace('_', ' ')}: {finding.summary}", "bold"),
    ]
    numbers = ", ".join(f"{name} {value:,.4g}" for name, value in finding.evidence.items())
    lines: list[Line] = [title, [(f"   {numbers}", "dim")]]
    lines += [[(f"   {each.file}:{each.line}: ", "cyan"), (each.text, "")] for each in finding.sources]
    changes = [(each.change, each.effect) for each in finding.advice]
    return lines + [[("   change ", ""), (change, "bold"), (f": {effect}", "")] for change, effect in changes]
