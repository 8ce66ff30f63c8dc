"""A run as GitHub's annotations: workflow commands, one a line, that mark lines of the pull request."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pytest_pagedkv.report.escaping import command_data, command_property
from pytest_pagedkv.report.runfile import Benchmark, Run
from pytest_pagedkv.report.status import Status, by_status
from pytest_pagedkv.report.wording import duration, evidence, moved

__all__ = ["MOST", "annotations"]

MOST = 10
"""GitHub shows that many annotations of a kind from one step, and drops the rest without a word."""

_KINDS = {
    "error": (Status.FAILED, Status.BROKEN),
    "warning": (Status.NOISY, Status.INCOMPARABLE, Status.DIFFERENT),
    "notice": (Status.NEW, Status.IMPROVED),
}


def annotations(run: Mapping[str, Any]) -> list[str]:
    """The lines to print, at most `MOST` of each kind; the last one then says how many are not there.

    Args:
        run: the run file's content.
    """
    view = Run.from_plain(run)
    return [line for kind in _KINDS for line in _capped(kind, list(_lines(view, kind)))]


def _lines(run: Run, kind: str) -> Iterator[str]:
    if kind == "error":
        yield from (_command(kind, "", "pagedkv perf", error) for error in run.errors)
    groups = by_status(run)
    for word in _KINDS[kind]:
        for benchmark in groups.get(word, ()):
            yield _command(kind, _place(benchmark), _title(word, benchmark), _message(benchmark))


def _capped(kind: str, lines: Sequence[str]) -> list[str]:
    if len(lines) <= MOST:
        return list(lines)
    rest = f"{len(lines) - MOST + 1} more are not shown here; the summary and the report page have all"
    return [*lines[: MOST - 1], _command(kind, "", "pagedkv perf", rest)]


def _command(kind: str, place: str, title: str, message: str) -> str:
    return f"::{kind} {place}title={command_property(title)}::{command_data(message)}"


def _place(benchmark: Benchmark) -> str:
    """Where the test is, if that is inside the repository."""
    path = PurePosixPath(benchmark.file)
    if not benchmark.file or path.is_absolute() or ".." in path.parts:
        return ""
    line = f"line={benchmark.line}," if benchmark.line is not None and benchmark.line > 0 else ""
    return f"file={command_property(benchmark.file)},{line}"


def _title(word: Status, benchmark: Benchmark) -> str:
    return f"pagedkv perf: {benchmark.verdict if word is Status.FAILED and benchmark.verdict else word}"


def _message(benchmark: Benchmark) -> str:
    """As the terminal has it: the benchmark, its times, the change, the counters that moved."""
    duet, parts = benchmark.duet, [benchmark.key]
    if duet is not None and duet.base_ns is not None and duet.head_ns is not None:
        parts.append(f"{duet.metric} {duration(duet.base_ns)} -> {duration(duet.head_ns)}")
    return "   ".join([*parts, *evidence(benchmark), ", ".join(moved(benchmark)[:3])]).rstrip()
