"""The end of a run: its reports in a folder, and on GitHub where it runs there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagedkv.errors import ConfigError
from pytest_pagedkv.baselines.folder import write_atomic
from pytest_pagedkv.report.annotations import annotations
from pytest_pagedkv.report.markdown import SUMMARY_LIMIT, comment, summary
from pytest_pagedkv.report.page import render_page

__all__ = ["Published", "publish"]

_LEAST_ROOM = 4096
"""Bytes of a step summary below which nothing useful fits."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was published.

    Attributes:
        annotations: workflow commands for the caller to print, one a line, outside of captured output.
        notes: what could not be written, and why.
    """

    annotations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def publish(
    run: Mapping[str, Any], *, folder: Path | None, environ: Mapping[str, str], key: str = ""
) -> Published:
    """Write the reports of a run; a report that cannot be written becomes a note, and the others are written.

    Args:
        run: the content of the run file.
        folder: gets index.html, summary.md and comment.md; None for none of them.
        environ: $GITHUB_STEP_SUMMARY names a file that gets the summary at its end; $GITHUB_ACTIONS=true asks
            for annotations.
        key: of the comment; see `pytest_pagedkv.report.markdown.marker`.
    """
    notes: list[str] = []
    if folder is not None:
        notes += _attempt(folder / "index.html", lambda path: write_atomic(path, render_page(run)))
        notes += _attempt(folder / "summary.md", lambda path: write_atomic(path, summary(run)))
        notes += _attempt(folder / "comment.md", lambda path: write_atomic(path, comment(run, key)))
    if name := environ.get("GITHUB_STEP_SUMMARY"):
        notes += _attempt(Path(name), lambda path: _append(path, run))
    lines = annotations(run) if environ.get("GITHUB_ACTIONS") == "true" else []
    return Published(tuple(lines), tuple(notes))


def _attempt(path: Path, write: Callable[[Path], None]) -> list[str]:
    try:
        write(path)
    except OSError as error:
        return [f"{path} cannot be written: {error.strerror}"]
    except ConfigError as error:
        return [f"{path} is not written: {error}"]
    return []


def _append(path: Path, run: Mapping[str, Any]) -> None:
    """Add the summary to those that the step has already, within what GitHub takes of all.

    Raises:
        ConfigError: there is no room left.
    """
    room = SUMMARY_LIMIT - (path.stat().st_size if path.exists() else 0)
    if room < _LEAST_ROOM:
        raise ConfigError(f"the step's summary has {room} bytes left of {SUMMARY_LIMIT}")
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write("\n" + summary(run, room - 1))
