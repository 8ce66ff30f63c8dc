"""What the plugin knows in every session, kept in one place on pytest's config."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_pagedkv.options import Options

if TYPE_CHECKING:
    from pytest_pagedkv.perf.duet.session import DuetSession

__all__ = ["COUNTING_FOLDER", "DUET", "STATE", "Role", "State"]


class Role(Enum):
    """What this process does for the run."""

    CONTROLLER = auto()
    """Decides and writes; runs the tests itself unless pytest-xdist does."""
    WORKER = auto()
    """Runs tests for a controller."""
    COUNTING = auto()
    """Counts a second time, under another hash seed, for a controller."""
    DUET = auto()
    """Times benchmarks on demand, for a controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The session's state; a performance run has a `PerfRun` besides.

    Attributes:
        options: what the user asked for.
        root: pytest's root directory.
        role: what this process does.
    """

    options: Options
    root: Path
    role: Role


STATE = pytest.StashKey[State]()

COUNTING_FOLDER = pytest.StashKey[Path]()
"""Set in a process that counts for another one: where the two exchange files."""

DUET: "pytest.StashKey[DuetSession]" = pytest.StashKey()
"""Set in a process that times for another one: its hooks."""
