"""The baselines of one place and time, such as a folder, a commit or a run, all seen alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pagedkv.errors import BaselineError
from pytest_pagedkv.baselines.schema import Entry
from pytest_pagedkv.baselines.store import Baselines

__all__ = ["KINDS", "Place", "Snapshot", "folder_snapshot"]

KINDS = ("counters", "kernels", "timing")
"""Sub-folders of a folder of baselines."""


class Place(NamedTuple):
    """Where an entry stands: its kind, the environment it was taken in ("" if in any), and its benchmark."""

    kind: str
    environment: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Baselines, or the counters of a run in their place.

    Attributes:
        label: what it is, as the user named it and more precisely.
        entries: what is known of each benchmark.
        is_whole: a benchmark without entry has none; a run only knows the benchmarks that it ran.
        gone: benchmarks whose test is certainly gone.
        notes: what is left out, and why.
    """

    label: str
    entries: Mapping[Place, Entry]
    is_whole: bool = True
    gone: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def lacks(self, place: Place) -> bool:
        """There is certainly no such entry."""
        return place not in self.entries and (self.is_whole or place.key in self.gone)


def folder_snapshot(folder: Path, shown: str, label: str | None = None) -> Snapshot:
    """All baselines of a folder, which need not exist.

    Args:
        folder: the folder with the sub-folders of `KINDS`.
        shown: its name in messages about its files.
        label: the name of the snapshot, by default the same.

    Raises:
        BaselineError: a file cannot be read, or is not what it must be.
    """
    stored = Baselines(folder, shown)
    found = ((key, stored.get(key)) for key in stored.keys())  # noqa: SIM118 - no mapping
    entries = {Place("counters", "", key): entry for key, entry in found if entry is not None}
    return Snapshot(label=label or shown, entries=entries)


def check_folder(folder: Path, shown: str) -> None:
    """See whether a folder can be one of baselines.

    Raises:
        BaselineError: it cannot.
    """
    if not folder.is_dir():
        raise BaselineError(f"{shown}: no such folder; name the one that holds {_folders()}")
    if not any((folder / kind).is_dir() for kind in KINDS):
        raise BaselineError(f"{shown}: holds no baselines; name the folder that holds {_folders()}")


def _folders() -> str:
    return ", ".join(f"{kind}/" for kind in KINDS[:-1]) + f" or {KINDS[-1]}/"
