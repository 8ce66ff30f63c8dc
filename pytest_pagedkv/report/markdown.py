"""A run in GitHub's markdown: a step summary, and the body of the one comment on a pull request."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pagedkv.errors import ConfigError
from pytest_pagedkv.baselines.wording import counted
from pytest_pagedkv.report.escaping import code, code_cell
from pytest_pagedkv.report.runfile import Benchmark, Run
from pytest_pagedkv.report.status import Status, by_status, headline, setting, unchanged
from pytest_pagedkv.report.wording import duration, evidence, moved

__all__ = ["COMMENT_LIMIT", "SUMMARY_LIMIT", "comment", "marker", "summary"]

COMMENT_LIMIT = 60_000
"""Bytes of a comment. GitHub takes 65,536 characters; who posts it may add some."""
SUMMARY_LIMIT = 1024 * 1024
"""Bytes that GitHub takes from one step as its summary; of more it shows nothing at all."""

_KEY = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")
_NUMS_ROWS = (10_000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0)
_HEAD = """\
| | benchmark | metric | base | head | change of time | counters that moved |
|---|---|---|--:|--:|---|---|"""
_SHOWN_OPEN = (
    Status.FAILED,
    Status.BROKEN,
    Status.NOISY,
    Status.IMPROVED,
    Status.DIFFERENT,
    Status.INCOMPARABLE,
    Status.NEW,
)
_MAX_MOVED = 3
_HOW_TO_READ = """\
* A counter is an exact integer: it fails if it is not equal to its baseline, on any machine.
* A change of time is head against base, measured in turn; T is the threshold. In brackets: the lowest and
  highest median of the confirming pairs or, where nothing was suspicious, the 95% interval of the screening.
  Slower than T in the confirming pairs fails. Faster than T is "improved".
* "No change detected" is not "equal": a change below the smallest detectable one goes unseen.
* "Too noisy" is shown and does not fail: the pairs disagree by more than twice the threshold.
* Accept other counters: `pytest --pagedkv-perf --pagedkv-accept=BENCHMARK --pagedkv-reason='...'`;
  a slowdown with --pagedkv-against besides."""


def summary(run: Mapping[str, Any], limit: int = SUMMARY_LIMIT) -> str:
    """The run for $GITHUB_STEP_SUMMARY.

    Args:
        run: the run file's content.
        limit: bytes that it may have; rows are left out, and counted, until it fits.
    """
    return _fitting(Run.from_plain(run), "", limit)


def comment(run: Mapping[str, Any], key: str = "") -> str:
    """The run as the body of a comment, whose first line is `marker(key)`; never too long for GitHub.

    Raises:
        ConfigError: the key is none.
    """
    return _fitting(Run.from_plain(run), marker(key) + "\n", COMMENT_LIMIT)


def marker(key: str = "") -> str:
    """The hidden first line by which a workflow finds its comment again, one for each key.

    Args:
        key: tells the kinds of a matrix apart, such as "cpu" and "gpu-h100".

    Raises:
        ConfigError: the key is too long, or not of letters and digits, joined by single ".", "_" or "-".
    """
    if not key:
        return "<!-- pagedkv-perf -->"
    if len(key) > 60 or not _KEY.fullmatch(key):
        raise ConfigError(
            f"{key[:80]!r} cannot be the key of a comment: use up to 60 letters and digits, joined by single "
            "'.', '_' or '-'"
        )
    return f"<!-- pagedkv-perf:{key} -->"


def _fitting(run: Run, first: str, limit: int) -> str:
    texts = (first + "\n".join(_document(run, num_rows)) + "\n" for num_rows in _NUMS_ROWS)
    shortest = f"{first}### pagedkv perf: {headline(run)}\n"
    return next((text for text in texts if len(text.encode()) < limit), shortest)


def _document(run: Run, num_rows: int) -> Iterator[str]:
    """The blocks, each table and list with that many rows at most."""
    groups = by_status(run)
    yield f"### pagedkv perf: {headline(run)}\n"
    yield f"{_setting(run)}\n"
    yield from _bullets("error", run.errors, num_rows)
    yield from _bullets("note", run.notes, num_rows)
    open_rows = [(word, each) for word in _SHOWN_OPEN for each in groups.get(word, ())]
    yield from _table(open_rows, num_rows)
    if Status.SAME in groups:
        yield f"{unchanged(run)}\n"
    yield from _stale(run, num_rows)
    for word in (Status.SAME, Status.UNJUDGED, Status.NOT_RUN):
        if word in groups:
            yield from _details(
                f"{len(groups[word])} {word}", _table([(word, each) for each in groups[word]], num_rows)
            )
    yield from _details("How to read this", [_HOW_TO_READ + "\n"])


def _setting(run: Run) -> str:
    parts = list(setting(run))
    if run.against is not None and not run.against.is_selftest:
        parts[1:1] = [f"base {code(run.against.base)}", f"head {code(run.against.head)}"]
    if run.environment:
        parts.append(code(run.environment))
    return ", ".join(parts)


def _bullets(word: str, lines: Sequence[str], most: int) -> Iterator[str]:
    yield from (f"* {word}: {code(line)}" for line in lines[:most])
    if len(lines) > most:
        yield f"* {_left_out(len(lines) - most, word)}"
    if lines:
        yield ""


def _table(rows: Sequence[tuple[Status, Benchmark]], most: int) -> Iterator[str]:
    if rows and most:
        yield _HEAD
        yield from (_row(word, benchmark) for word, benchmark in rows[:most])
        yield ""
    if len(rows) > most:
        yield f"{_left_out(len(rows) - most, 'benchmark')}\n"


def _row(word: Status, benchmark: Benchmark) -> str:
    duet = benchmark.duet
    times = (duet.base_ns, duet.head_ns) if duet is not None else (None, _median(benchmark))
    cells = [
        _told(word, benchmark),
        code_cell(benchmark.key),
        benchmark.metric,
        *("" if time is None else duration(time) for time in times),
        "<br>".join(map(code_cell, evidence(benchmark))),
        "<br>".join(_some(moved(benchmark))),
    ]
    return f"| {' | '.join(cells)} |"


def _told(word: Status, benchmark: Benchmark) -> str:
    if word is Status.FAILED:
        return f"**FAIL** {benchmark.verdict}".rstrip()
    return benchmark.verdict if word is Status.DIFFERENT else word.value


def _median(benchmark: Benchmark) -> float | None:
    samples = sorted(benchmark.timing.samples_ns) if benchmark.timing is not None else []
    return samples[len(samples) // 2] if samples else None


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"+{len(lines) - _MAX_MOVED} more"] if len(lines) > _MAX_MOVED else []
    return [*map(code_cell, lines[:_MAX_MOVED]), *more]


def _stale(run: Run, most: int) -> Iterator[str]:
    if run.stale:
        title = f"{counted(len(run.stale), 'stale baseline')}: the test is gone"
        yield from _details(title, _bullets("stale", run.stale, most))


def _details(title: str, content: Sequence[str] | Iterator[str]) -> Iterator[str]:
    yield f"<details><summary>{title}</summary>\n"
    yield from content
    yield "</details>\n"


def _left_out(number: int, word: str) -> str:
    return f"{number} more {word}{'s' * (number != 1)} left out to keep this short; the report page has all."
