"""Rules for workflows that the linters do not know, or would let us ignore."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.files import ACTION, GITHUB, ROOT, WORKFLOWS, all_steps, events, jobs, load, workflow

_YAML = [*WORKFLOWS, ACTION / "action.yml"]
_PIN = re.compile(r"([\w.-]+/[\w./-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+")
_UNTRUSTED = {"pull_request_target", "workflow_run"}
_WRITES = {
    "gpu-label/remove": {"pull-requests"},
    "nightly/history": {"contents"},
    "perf-comment/comment": {"pull-requests"},
    "release/attest": {"attestations", "id-token"},
    "release/notes": {"contents"},
    "release/publish": {"id-token"},
}
each_file = pytest.mark.parametrize("path", _YAML, ids=lambda path: path.parent.name + "/" + path.stem)
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
each_job = pytest.mark.parametrize(
    ("name", "job"), list(jobs()), ids=lambda value: value if isinstance(value, str) else ""
)


@each_workflow
def test_nothing_is_permitted_at_the_top(path: Path) -> None:
    """Every job says what it needs, and gets no more."""
    content = load(path)
    assert content["permissions"] == {}
    assert "concurrency" in content


@each_job
def test_jobs_are_bounded(name: str, job: Any) -> None:
    """A time-out, permissions of its own, and a fixed version of the hosted runner."""
    assert isinstance(job["timeout-minutes"], int), name
    assert "permissions" in job
    assert isinstance(job["runs-on"], list) or not job["runs-on"].endswith("latest")


def test_only_these_jobs_may_write() -> None:
    """Each of them one thing, or two that belong together."""
    writes = {
        name: {scope for scope, level in job["permissions"].items() if level == "write"}
        for name, job in jobs()
    }
    assert {name: scopes for name, scopes in writes.items() if scopes} == _WRITES


@each_file
def test_actions_are_pinned(path: Path) -> None:
    """By the hash of a commit, with its version beside it for the reader and for Dependabot."""
    for uses in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8")):
        assert uses.startswith("./") or _PIN.fullmatch(uses), uses


def test_one_pin_for_each_action() -> None:
    """No two versions of one action are in use."""
    text = "".join(path.read_text(encoding="utf-8") for path in _YAML)
    pins = {match[0]: match[1] for match in _PIN.finditer(text)}
    assert len(set(pins.values())) == len(pins)


def test_no_expression_in_a_script() -> None:
    """Values reach scripts through the environment, where no shell parses them."""
    for _, step in all_steps():
        assert "${{" not in step.get("run", "")
        assert step.get("shell") in (None, "bash", "python")


@each_file
def test_no_secrets(path: Path) -> None:
    """Nothing here needs a stored secret; the run's own token is enough."""
    assert not re.search(r"secrets\s*[.\[:]", path.read_text(encoding="utf-8"))


def test_checkouts_leave_no_token_behind() -> None:
    """Code of a pull request must not find one in .git/config."""
    for name, step in all_steps():
        if str(step.get("uses", "")).startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_pull_requests_only_read() -> None:
    """A workflow that runs their code has no right to change anything."""
    for path in WORKFLOWS:
        if "pull_request" in events(load(path)):
            for name, job in jobs(path.stem):
                assert job["permissions"] == {"contents": "read"}, name


def test_workflows_with_rights_run_nothing_of_a_pull_request() -> None:
    """Those that a pull request starts with the rights of the base check nothing out and use no action."""
    privileged = [path for path in WORKFLOWS if events(load(path)) & _UNTRUSTED]
    assert [path.stem for path in privileged] == ["gpu-label", "perf-comment"]
    for path in privileged:
        for name, job in jobs(path.stem):
            for step in job["steps"]:
                assert "uses" not in step, name
                assert not re.search(
                    r"\bgit (clone|fetch)\b|\bpip\b|gh (pr checkout|repo clone)", step["run"]
                ), name


def test_our_own_runners_are_behind_a_label_and_an_approval() -> None:
    """A pull request reaches a GPU by the event of labelling alone, which a new push is not."""
    own = {name: job for name, job in jobs() if "self-hosted" in job["runs-on"]}
    assert set(own) == {"gpu/gate", "gpu/baselines"}
    assert all(job["environment"] == "gpu" and "ephemeral" in job["runs-on"] for job in own.values())
    assert workflow("gpu")["on"] == {"pull_request": {"types": ["labeled"]}, "workflow_dispatch": None}
    assert "github.event.label.name == 'gpu'" in own["gpu/gate"]["if"]
    assert "refs/heads/main" in own["gpu/baselines"]["if"]


def test_pushes_take_the_label_away() -> None:
    """What was approved is no longer what is there."""
    assert workflow("gpu-label")["on"] == {"pull_request_target": {"types": ["synchronize", "reopened"]}}


def test_publishing_builds_nothing() -> None:
    """The job that can publish has an environment, and runs no script."""
    publish = workflow("release")["jobs"]["publish"]
    assert publish["environment"] == "pypi"
    assert not any("run" in step for step in publish["steps"])


def test_inputs_of_the_action_exist() -> None:
    """The linters here do not look into a local action."""
    action = load(ACTION / "action.yml")
    users = [step for _, step in all_steps() if str(step.get("uses", "")).startswith("./")]
    assert users
    for step in users:
        assert set(step.get("with", {})) <= set(action["inputs"])


def test_inputs_of_the_action_are_used() -> None:
    """Each has a description, a default and an effect."""
    steps = str(load(ACTION / "action.yml")["runs"])
    for name, each in load(ACTION / "action.yml")["inputs"].items():
        assert set(each) == {"description", "default"}, name
        assert f"inputs.{name} " in steps, name


def test_inputs_and_outputs_are_documented() -> None:
    """docs/ci.md has a row for each."""
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    action = load(ACTION / "action.yml")
    for name in [*action["inputs"], *action["outputs"]]:
        assert f"| `{name}` |" in text, name


def test_scripts_exist() -> None:
    """What a step starts is a file of ours that can be started."""
    for name, step in all_steps():
        for script in re.findall(r"^(?:python )?(\.ci/\w+(?:\.py)?)", step.get("run", ""), re.MULTILINE):
            assert (ROOT / script).is_file(), name
            assert script.endswith(".py") or (ROOT / script).stat().st_mode & 0o100, script
    assert all(path.stat().st_mode & 0o100 for path in ACTION.glob("*.sh"))


def test_the_comment_comes_from_the_gate() -> None:
    """The names by which the two workflows find each other agree."""
    perf = workflow("perf")
    gate = perf["jobs"]["cpu"]["steps"][-1]
    post = workflow("perf-comment")["jobs"]["comment"]["steps"][0]["run"]
    assert workflow("perf-comment")["on"]["workflow_run"]["workflows"] == [perf["name"]]
    assert f'ARTIFACT, MARK = "{gate["with"]["comment-artifact"]}", "<!-- pagedkv-perf -->"' in post


def test_updates_wait() -> None:
    """Dependabot looks at all pins, and lets a release stand for a while first."""
    update = load(GITHUB / "dependabot.yml")["updates"][0]
    assert update["directories"] == ["/", "/.github/actions/*"]
    assert update["cooldown"]["default-days"] >= 7
