"""Whether one environment serves both sides: what the base asks for, against what is installed."""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

__all__ = ["Demands", "demands_of"]

_FILES = ("requirements*.txt", "constraints*.txt")


class Demands:
    """What a tree asks for.

    Args:
        required: requirements that have to be met, as their files spell them.
        optional: those of extras and constraints: they count where the package is installed at all.
        python: the specifier of Python's version, or "".
    """

    def __init__(self, required: frozenset[str], optional: frozenset[str], python: str) -> None:
        self.required = required
        self.optional = optional
        self.python = python

    def differences(self, other: "Demands") -> list[str]:
        """What this tree asks for and the other does not."""
        mine = self.required | self.optional | ({f"Python {self.python}"} if self.python else set())
        theirs = other.required | other.optional | ({f"Python {other.python}"} if other.python else set())
        return sorted(mine - theirs)

    def unmet(self) -> list[str]:
        """What this environment does not give, one line each."""
        found = [_unmet(text, must_be_there=True) for text in sorted(self.required)]
        found += [_unmet(text, must_be_there=False) for text in sorted(self.optional)]
        return [*filter(None, found), *self._unmet_python()]

    def _unmet_python(self) -> Iterator[str]:
        here = ".".join(map(str, sys.version_info[:3]))
        try:
            if self.python and not SpecifierSet(self.python).contains(here, prereleases=True):
                yield f"Python {self.python} (here is {here})"
        except InvalidSpecifier:
            yield f"Python {self.python} (not a version specifier)"


def demands_of(root: Path) -> Demands:
    """Read pyproject.toml, requirements*.txt and constraints*.txt of a tree.

    Args:
        root: the folder of the project, which is pytest's root directory.
    """
    project = _project(root / "pyproject.toml")
    extras = project.get("optional-dependencies", {})
    optional = {text for group in extras.values() for text in group}
    for pattern in _FILES:
        for path in sorted(root.glob(pattern)):
            optional |= set(_lines(path))
    return Demands(
        frozenset(map(str, project.get("dependencies", ()))),
        frozenset(map(str, optional)),
        str(project.get("requires-python", "")),
    )


def _project(path: Path) -> dict[str, Any]:
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return {}
    return project if isinstance(project, dict) else {}


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.partition(" #")[0].strip()
        if text and not text.startswith(("#", "-")):
            yield text


def _unmet(text: str, *, must_be_there: bool) -> str | None:
    """What is wrong with a requirement here; None if nothing, or if it is not one that can be read."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        here = version(requirement.name)
    except PackageNotFoundError:
        return f"{text} (not installed here)" if must_be_there else None
    is_met = requirement.specifier.contains(here, prereleases=True)
    return None if is_met else f"{text} (here is {here})"
