"""`.ci/perf` runs what the workflow and the action say, and nothing else."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows.files import ACTION, ROOT, load, workflow

_JOB = runpy.run_path(str(ROOT / ".ci/perf_job.py"))


def _perf(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".ci/perf"), *arguments]
    environment = os.environ | {"PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_its_steps_are_those_of_the_job() -> None:
    """In their order, those of the action in its place; what is left out are other people's actions."""
    job, action = workflow("perf")["jobs"]["cpu"]["steps"], load(ACTION / "action.yml")["runs"]["steps"]
    assert [step["uses"].partition("@")[0] for step in job] == [
        "actions/checkout",
        "./.github/actions/pagedkv-perf",
    ]
    expected = [job[0], *action]
    shown = [step.get("run") or f"(only on GitHub) {step['uses']}" for step in expected]
    assert _perf("--list").stdout.splitlines() == shown


def test_the_action_only_starts_scripts() -> None:
    """All that it does is in files, which a third party's job and `.ci/perf` start alike."""
    runs = [step["run"] for step in load(ACTION / "action.yml")["runs"]["steps"] if "run" in step]
    assert runs == [
        '"$GITHUB_ACTION_PATH/install.sh"',
        '"$GITHUB_ACTION_PATH/fetch_base.sh"',
        '"$GATE_PYTHON" "$GITHUB_ACTION_PATH/gate.py"',
    ]


def test_the_inputs_are_those_of_the_job() -> None:
    """The workflow's, over the action's defaults; the base and, with --here, the installing are our own."""
    given = workflow("perf")["jobs"]["cpu"]["steps"][-1]["with"]
    steps = list(_JOB["steps"](_JOB["WORKFLOW"], {"base": "v1"}))
    inputs = steps[-1].inputs
    assert {name: inputs[name] for name in given} == given
    assert (inputs["base"], inputs["working-directory"], inputs["token"]) == ("v1", ".", "")


@pytest.mark.parametrize("text", ["${{ inputs.a || 'b' }}", "${{ secrets.A }}", "${{ hashFiles('a') }}"])
def test_what_only_github_can_evaluate_is_refused(text: str) -> None:
    """Rather than run something else than GitHub would."""
    with pytest.raises(_JOB["NotUnderstood"], match="only GitHub can evaluate"):
        _JOB["evaluate"](text, {})


def test_a_step_that_fails_ends_the_job(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Later steps are not reached, but those that always run are; outputs are passed on."""
    texts = [
        {"run": "echo made=1 >>$GITHUB_OUTPUT", "id": "first"},
        {"run": 'echo "saw $MADE"; exit 10', "env": {"MADE": "${{ steps.first.outputs.made }}"}},
        {"run": "echo unreachable"},
        {"run": "echo cleaning", "if": "${{ !cancelled() }}"},
    ]
    runner = _JOB["Runner"](os.environ, tmp_path)
    for text in texts:
        runner.run(_JOB["Step"](text=text))
    said = capfd.readouterr().out
    assert runner.exit_code == 10
    assert "saw 1\n" in said
    assert "\nunreachable" not in said
    assert "\ncleaning" in said
