"""The baselines of one place and time, such as a folder, a commit or a run, all seen alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.folder import Folder
from pytest_pagedkv.baselines.kernels import kernel_folders
from pytest_pagedkv.baselines.schema import COUNTERS, KERNELS, Entry, parse, render
from pytest_pagedkv.baselines.slower import SLOWER, Slowdown, parse_slowdowns, render_slowdowns
from pytest_pagedkv.baselines.timing_schema import (
    TimingEntry,
    parse_environment,
    parse_timings,
    render_timings,
)

__all__ = [
    "ENVIRONMENT",
    "KINDS",
    "Place",
    "Snapshot",
    "Stored",
    "check_folder",
    "folder_snapshot",
    "folders",
]

KINDS = (COUNTERS, "timing", SLOWER, KERNELS)
"""Sub-folders of a folder of baselines."""

ENVIRONMENT = "env.json"
"""The file beside timings that says where they were taken."""

Stored = Entry | TimingEntry | Slowdown
"""What is stored of a benchmark."""


class Place(NamedTuple):
    """Where an entry stands: its kind, the environment or toolchain it is of ("" for any), its benchmark."""

    kind: str
    environment: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Baselines, or what a run measured in their place.

    Attributes:
        label: what it is, as the user named it and more precisely.
        entries: what is known of each benchmark.
        environments: the fields of each environment that have to be equal for timings to be compared.
        is_whole: a benchmark without entry has none; a run only knows the benchmarks that it ran.
        python: the version of Python that a run had, such as "311"; "" for what is stored, for all of them.
        gone: benchmarks whose test is certainly gone.
        notes: what is left out, and why.
    """

    label: str
    entries: Mapping[Place, Stored]
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    is_whole: bool = True
    python: str = ""
    gone: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def knows(self, place: Place) -> bool:
        """There is such an entry, or certainly none."""
        return place in self.entries or self.is_whole or place.key in self.gone


def folders(directory: Path, shown: str) -> Iterator[tuple[str, str, Folder[Any]]]:
    """The folders of files that a folder of baselines has, with their kind and environment."""
    yield COUNTERS, "", Folder(directory / COUNTERS, f"{shown}/{COUNTERS}", parse, render)
    for toolchain, kernels in kernel_folders(directory, shown).items():
        yield KERNELS, toolchain, kernels
    yield SLOWER, "", Folder(directory / SLOWER, f"{shown}/{SLOWER}", parse_slowdowns, render_slowdowns)
    timing = directory / "timing"
    for path in sorted(timing.iterdir()) if timing.is_dir() else ():
        if path.is_dir():
            folder = Folder(path, f"{shown}/timing/{path.name}", parse_timings, render_timings)
            yield "timing", path.name, folder


def folder_snapshot(directory: Path, shown: str, label: str | None = None) -> Snapshot:
    """All baselines of a folder, which need not exist.

    Args:
        directory: the folder with the sub-folders of `KINDS`.
        shown: its name in messages about its files.
        label: the name of the snapshot, by default the same.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """
    entries: dict[Place, Stored] = {}
    environments: dict[str, Mapping[str, str]] = {}
    for kind, environment, folder in folders(directory, shown):
        found = folder.read(but=ENVIRONMENT)
        entries |= {Place(kind, environment, key): entry for key, entry in found.items()}
        if kind == "timing" and found:
            environments[environment] = _environment(folder)
    return Snapshot(label=label or shown, entries=entries, environments=environments)


def check_folder(folder: Path, shown: str) -> None:
    """See whether a folder can be one of baselines.

    Raises:
        BaselineError: it cannot.
    """
    names = " or ".join(f"{kind}/" for kind in KINDS)
    if not folder.is_dir():
        raise BaselineError(f"{shown}: no such folder; name the one that holds {names}")
    if not any((folder / kind).is_dir() for kind in KINDS):
        raise BaselineError(f"{shown}: holds no baselines; name the folder that holds {names}")


def _environment(folder: Folder[Any]) -> Mapping[str, str]:
    shown = f"{folder.shown}/{ENVIRONMENT}"
    try:
        return parse_environment((folder.path / ENVIRONMENT).read_bytes(), shown).compared
    except OSError as error:
        raise BaselineError(
            f"{shown}: cannot be read ({error.strerror}), and without it the timings beside it mean nothing; "
            f"restore it from git, or delete {folder.shown}"
        ) from error
