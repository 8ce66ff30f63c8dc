"""The page from top to bottom."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pagedkv.report.document import document
from pagedkv.report.html import Markup, element, joined
from pagedkv.report.marks import markers
from pytest_pagedkv.report.page.detail import detail
from pytest_pagedkv.report.page.style import MARKERS, script, style
from pytest_pagedkv.report.page.table import overview
from pytest_pagedkv.report.runfile import Run
from pytest_pagedkv.report.status import Status, by_status, exit_code, headline, setting
from pytest_pagedkv.report.wording import percent, smallest_detectable

__all__ = ["render_page"]

_HOW_TO_READ = {
    "Counter": "An exact integer. It fails if it is not equal to its baseline, on any machine.",
    "Time against another commit": (
        "Base and head run in turn, in one process each: a pair. The screening pair (rings) only says which "
        "benchmarks are suspicious. These are measured again in fresh, confirming pairs (filled dots), which "
        "alone decide: slower by more than the threshold fails, faster by more than that is an improvement."
    ),
    "Interval": (
        "The lowest and highest median of the confirming pairs; of a screening pair alone, the 95% interval "
        "of its median."
    ),
    "No change detected": 'Not "equal": a change below the smallest detectable one goes unseen.',
    "Too noisy": "The pairs disagree by more than twice the threshold. It is shown, and fails nothing.",
    "Stored timings": (
        "In multiples of a reference workload that runs in between. They show a trend, and fail only for "
        "large changes."
    ),
}


def render_page(run: Mapping[str, Any]) -> str:
    """A whole HTML document.

    Args:
        run: the run file's content.
    """
    view = Run.from_plain(run)
    skip = element("a", "Skip to the benchmarks", href="#benchmarks", class_="skip")
    return document(
        f"pagedkv perf: {headline(view)}",
        skip,
        markers(MARKERS),
        element("main", *_sections(view)),
        style=style(),
        script=script(),
    )


def _sections(run: Run) -> Iterator[Markup]:
    groups = by_status(run)
    yield element("header", element("h1", f"pagedkv perf: {headline(run)}"), _facts(run))
    yield _tiles(run)
    yield from _messages("Errors", run.errors, "bad")
    yield from _messages("Notes", run.notes)
    yield element("h2", "Benchmarks", id="benchmarks")
    if not run.benchmarks:
        yield element("p", "This run has no benchmark: no test that was selected is marked pagedkv_perf.")
    else:
        rows = [(word, benchmark) for word, benchmarks in groups.items() for benchmark in benchmarks]
        ids = {benchmark.key: f"b{index}" for index, (_, benchmark) in enumerate(rows)}
        yield overview(groups, ids)
        yield element("h2", "One by one")
        yield joined(*(detail(word, benchmark, ids[benchmark.key]) for word, benchmark in rows))
    yield from _messages("Stored benchmarks whose test is gone (stale)", run.stale)
    yield element("h2", "How to read this page")
    terms = (joined(element("dt", term), element("dd", text)) for term, text in _HOW_TO_READ.items())
    yield element("dl", *terms, class_="facts")


def _facts(run: Run) -> Markup:
    found = [joined(element("dt", name), element("dd", text)) for name, text in _told(run) if text]
    return element("dl", *found, class_="facts")


def _told(run: Run) -> Iterator[tuple[str, str]]:
    if run.against is not None:
        yield "base", run.against.base
        yield "head", run.against.head
    yield "measured", ", ".join(setting(run)) + _took(run)
    yield "environment", run.environment
    yield "fingerprint", ", ".join(f"{name} {value}" for name, value in run.fields.items() if value)
    yield "recorded", ", ".join(f"{name} {value}" for name, value in run.recorded.items() if value)
    yield "python", ", ".join(part for part in (run.python, run.platform) if part)
    yield "baselines", run.baselines
    yield "command", shlex.join(run.command)
    yield "finished", run.finished
    yield "exit code", exit_code(run)


def _took(run: Run) -> str:
    seconds = run.against.seconds if run.against is not None else None
    return "" if seconds is None else f", comparing took {seconds:.1f} s"


def _tiles(run: Run) -> Markup:
    styles = {Status.FAILED: "bad", Status.BROKEN: "bad", Status.IMPROVED: "good", Status.NOISY: "warn"}
    tiles = [_tile(str(len(run.benchmarks)), "benchmarks" if len(run.benchmarks) != 1 else "benchmark")]
    groups = by_status(run)
    for word in Status:
        if word in groups or word is Status.FAILED:
            number = len(groups.get(word, ()))
            tiles.append(_tile(str(number), word.value, styles.get(word, "") if number else ""))
    if run.stale:
        tiles.append(_tile(str(len(run.stale)), "stale"))
    for metric, limit in smallest_detectable(run).items():
        tiles.append(
            _tile(f"~{percent(limit, sign=False)}", f"smallest detectable here, {metric}".rstrip(", "))
        )
    return element("ul", *tiles, class_="tiles")


def _tile(number: str, label: str, style: str = "") -> Markup:
    return element("li", element("b", number, class_=style or None), label)


def _messages(title: str, lines: Sequence[str], style: str = "") -> Iterator[Markup]:
    if lines:
        heading = element("h2", f"{title} ({len(lines)})", class_=style or None)
        yield joined(heading, element("ul", *(element("li", line) for line in lines), class_="notes"))
