"""The workflows and the action as data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
ACTION = GITHUB / "actions/pagedkv-perf"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def load(path: Path) -> Any:
    """The content of a YAML file; YAML 1.2, in which `on` is a name."""
    return YAML(typ="safe", pure=True).load(path)


def workflow(name: str) -> Any:
    """A workflow by its file's stem."""
    return load(GITHUB / "workflows" / f"{name}.yml")


def jobs(name: str | None = None) -> Iterator[tuple[str, Any]]:
    """Every job as "workflow/job" and content, of all workflows or of one."""
    for path in WORKFLOWS:
        if name in (None, path.stem):
            for job, content in load(path)["jobs"].items():
                yield f"{path.stem}/{job}", content


def events(content: Any) -> set[str]:
    """What starts a workflow."""
    on = content["on"]
    return {on} if isinstance(on, str) else set(on)


def all_steps() -> Iterator[tuple[str, Any]]:
    """Every step of every job and of the action, with the name of where it stands."""
    for name, job in jobs():
        yield from ((name, step) for step in job["steps"])
    yield from (("action", step) for step in load(ACTION / "action.yml")["runs"]["steps"])
