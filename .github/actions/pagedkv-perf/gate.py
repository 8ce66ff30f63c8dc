"""Run the gate in the working directory, and write what came out to the outputs of the step.

The environment says what to do: GATE_AGAINST (a commit), GATE_PYTEST_ARGS, GATE_BASELINES, GATE_DEVICE,
GATE_REPORT, GATE_FAIL_ON_REGRESSION, GATE_ENV and GATE_PULL_REQUEST; action.yml describes each. Only the
standard library is used, because the interpreter is that of the tested project.

Outputs: verdict, exit-code, report, run (the folder `.pagedkv-perf`), comment (a folder with the body of the
comment, if this is a pull request and the run wrote one).
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_VERDICTS = {0: "pass", 5: "no-tests", 10: "regression", 11: "no-baseline", 12: "nondeterministic"}
_MEANINGS = {
    "regression": "a regression was confirmed",
    "no-baseline": "a baseline is missing or cannot be compared",
    "nondeterministic": "a counter differs between two passes over the same code",
    "no-tests": "no performance test was found",
    "failed": "tests failed, or pytest could not run",
}
_REGRESSION = 10
_RUN_FOLDER = ".pagedkv-perf"


class InputError(ValueError):
    """An input of the action that cannot be used."""


def command(env: Mapping[str, str], report: Path) -> list[str]:
    """The pytest command that the inputs ask for.

    Raises:
        InputError: the further arguments are not quoted properly.
    """
    options = {
        "--pagedkv-against": env.get("GATE_AGAINST", ""),
        "--pagedkv-baselines": env.get("GATE_BASELINES", ""),
        "--pagedkv-device": env.get("GATE_DEVICE", ""),
        "--pagedkv-report": str(report),
    }
    try:
        further = shlex.split(env.get("GATE_PYTEST_ARGS", ""), comments=False)
    except ValueError as error:
        raise InputError(f"the input pytest-args cannot be split: {error}") from error
    given = [f"{name}={value}" for name, value in options.items() if value]
    return [sys.executable, "-m", "pytest", "--pagedkv-perf", *given, *further]


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of pytest: this one, less the action's own variables, and what the input adds.

    Raises:
        InputError: a line is not NAME=value.
    """
    result = {name: value for name, value in env.items() if not name.startswith("GATE_")}
    for line in filter(str.strip, env.get("GATE_ENV", "").splitlines()):
        name, equals, value = line.strip().partition("=")
        if not (equals and name.isidentifier()):
            raise InputError(f"the input env has a line {line!r}; it must be NAME=value")
        result[name] = value
    return result


def is_new(path: Path, started: float) -> bool:
    """The file was written since then (seconds since the epoch), and is not left over from another run."""
    return path.is_file() and path.stat().st_mtime >= started - 1.0


def run_folder(start: Path, top: Path, started: float) -> Path | None:
    """The nearest `.pagedkv-perf` from `start` up to `top`: pytest's root may be above where it started."""
    for folder in (start, *start.parents):
        if is_new(folder / _RUN_FOLDER / "run.json", started):
            return folder / _RUN_FOLDER
        if folder == top:
            return None
    return None


def comment_folder(report: Path, number: str, started: float) -> Path | None:
    """A folder with the comment and the number of the pull request, for the workflow that posts it."""
    body = report / "comment.md"
    if not (number.isascii() and number.isdigit() and is_new(body, started)):
        return None
    folder = report.parent / "comment"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(body, folder / "comment.md")
    (folder / "pr").write_text(f"{number}\n", encoding="ascii")
    return folder


def write_outputs(path: str, outputs: Mapping[str, object]) -> None:
    """Append them to the file that the runner reads; a line break would forge further outputs.

    Raises:
        InputError: a value has a line break.
    """
    for name, value in outputs.items():
        if "\n" in str(value) or "\r" in str(value):
            raise InputError(f"the output {name} would have a line break: {str(value)!r}")
    with Path(path).open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in outputs.items())


def say(text: str) -> None:
    """One line to the log of the job, in its order with the lines of pytest."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def finish(code: int, verdict: str, env: Mapping[str, str]) -> int:
    """Say what the exit code means, and give the one of the step."""
    forgiven = code == _REGRESSION and env.get("GATE_FAIL_ON_REGRESSION", "true") == "false"
    if code:
        level = "warning" if forgiven else "error"
        say(f"::{level} title=pagedkv::{_MEANINGS[verdict]} (pytest exit code {code})")
    return 0 if forgiven else code


def main(env: Mapping[str, str]) -> int:
    """Run pytest; the exit code of the step."""
    here = Path.cwd()
    report = here / (env.get("GATE_REPORT") or f"{_RUN_FOLDER}/report")
    pytest, pytest_env = command(env, report), environment(env)
    say(shlex.join(pytest))
    started = time.time()
    code = subprocess.run(pytest, env=pytest_env, check=False).returncode  # noqa: S603
    verdict = _VERDICTS.get(code, "failed")
    outputs = {
        "verdict": verdict,
        "exit-code": code,
        "report": report,
        "run": run_folder(here, Path(env.get("GITHUB_WORKSPACE", "/")), started) or "",
        "comment": comment_folder(report, env.get("GATE_PULL_REQUEST", ""), started) or "",
    }
    write_outputs(env["GITHUB_OUTPUT"], outputs)
    return finish(code, verdict, env)


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ))
    except InputError as error:
        say(f"::error title=pagedkv::{error}")
        sys.exit(2)
