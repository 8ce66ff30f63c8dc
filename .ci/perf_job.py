"""Run the steps of the performance job here as GitHub would: those that perf.yml and its action say.

.ci/perf [--here] [--list] [BASE]

A new virtual environment stands in for the runner's Python; with --here it is the active one, and nothing is
installed. BASE is the commit to compare with; without it the action decides, as in the workflow. Steps that
are other people's actions (checkout, artifacts) are named and left out. --list only shows the steps.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / ".github/workflows/perf.yml"
JOB = "cpu"
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_EVEN_AFTER_FAILURE = "${{ !cancelled() }}"


class NotUnderstood(ValueError):
    """The workflow uses something that only GitHub can evaluate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, with its inputs still unevaluated.

    Attributes:
        text: the step as the file has it.
        inputs: the inputs of the action that it belongs to, evaluated.
        folder: the folder of that action, or None for a step of the workflow itself.
    """

    text: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def name(self) -> str:
        """What GitHub calls it in the log."""
        return str(self.text.get("name") or self.text.get("uses") or self.text["run"])


def load(path: Path) -> Any:
    """The content of a YAML file."""
    return YAML(typ="safe", pure=True).load(path)


def steps(workflow: Path, overrides: Mapping[str, str]) -> Iterator[Step]:
    """The steps of the job, those of our own action in its place.

    Args:
        workflow: the file of the job.
        overrides: inputs of the action to set otherwise than the workflow does.
    """
    for text in load(workflow)["jobs"][JOB]["steps"]:
        if not str(text.get("uses", "")).startswith("./"):
            yield Step(text=text)
            continue
        folder = ROOT / text["uses"]
        action = load(folder / "action.yml")
        defaults = {name: each.get("default", "") for name, each in action["inputs"].items()}
        given = {**defaults, **text.get("with", {})}
        inputs = {name: evaluate(str(value), {}) for name, value in given.items()}
        for inner in action["runs"]["steps"]:
            yield Step(text=inner, inputs={**inputs, **overrides}, folder=folder)


def evaluate(text: str, known: Mapping[str, str]) -> str:
    """The text with its expressions replaced; what belongs to a run on GitHub only is empty.

    Raises:
        NotUnderstood: an expression is more than the name of a value.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if not re.fullmatch(r"(inputs|steps|github)\.[\w.-]+", name):
            raise NotUnderstood(f"only GitHub can evaluate {match[0]}")
        return known.get(name, "")

    return _EXPRESSION.sub(value, text)


class Runner:
    """Runs steps one after the other and passes outputs on, as a runner does."""

    def __init__(self, environment: Mapping[str, str], scratch: Path) -> None:
        self._environment = environment
        self._scratch = scratch
        self._outputs: dict[str, str] = {}
        self.exit_code = 0

    def run(self, step: Step) -> None:
        """Run it, unless a step before it failed."""
        if self.exit_code and step.text.get("if") != _EVEN_AFTER_FAILURE:
            say(f"-- {step.name}: not reached")
            return
        say(f"-- {step.name}")
        environment, script, cwd = self._prepared(step)
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        code = subprocess.run(command, env=environment, cwd=cwd, check=False).returncode  # noqa: S603
        self.exit_code = self.exit_code or code
        self._read_outputs(step.text.get("id", ""))

    def _prepared(self, step: Step) -> tuple[dict[str, str], Path, Path]:
        known = {f"inputs.{name}": value for name, value in step.inputs.items()} | self._outputs
        given = {name: evaluate(str(value), known) for name, value in step.text.get("env", {}).items()}
        output = self._scratch / "output"
        output.write_text("")
        environment = {**self._environment, **given, "GITHUB_OUTPUT": str(output)}
        if step.folder is not None:
            environment["GITHUB_ACTION_PATH"] = str(step.folder)
        script = self._scratch / "step.sh"
        script.write_text(evaluate(step.text["run"], {}))
        return environment, script, ROOT / evaluate(step.text.get("working-directory", "."), known)

    def _read_outputs(self, step_id: str) -> None:
        for line in (self._scratch / "output").read_text().splitlines():
            name, _, value = line.partition("=")
            self._outputs[f"steps.{step_id}.outputs.{name}"] = value
            say(f"   {name}: {value}")


def say(text: str) -> None:
    """One line, in its order with what the steps print."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def new_environment(scratch: Path) -> str:
    """A new virtual environment; PATH with it in front."""
    subprocess.run([sys.executable, "-m", "venv", str(scratch / "venv")], check=True)  # noqa: S603
    return f"{scratch / 'venv/bin'}{os.pathsep}{os.environ['PATH']}"


def main() -> int:
    """Run them all; the exit code of the first step that failed."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=".ci/perf", description=__doc__, formatter_class=style)
    parser.add_argument("--here", action="store_true", help="use the active environment, install nothing")
    parser.add_argument("--list", action="store_true", help="show the steps, run none")
    parser.add_argument("base", nargs="?", default="", metavar="BASE")
    arguments = parser.parse_args()
    overrides = {"base": arguments.base} | ({"install": ""} if arguments.here else {})
    todo = list(steps(WORKFLOW, overrides))
    if arguments.list:
        for step in todo:
            say(step.text.get("run", f"(only on GitHub) {step.text.get('uses')}"))
        return 0
    return run_all(todo, here=arguments.here)


def run_all(todo: list[Step], *, here: bool) -> int:
    """Run the steps with an environment like a runner's."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        environment = {
            **os.environ,
            "PATH": os.environ["PATH"] if here else new_environment(scratch),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(scratch / "summary.md"),
        }
        runner = Runner(environment, scratch)
        for step in todo:
            if "run" in step.text:
                runner.run(step)
            else:
                say(f"-- {step.name}: only on GitHub")
        return runner.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotUnderstood as error:
        sys.exit(f"{WORKFLOW.name}: {error}")
