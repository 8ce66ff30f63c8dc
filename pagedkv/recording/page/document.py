"""The page from top to bottom."""

from collections.abc import Iterator, Mapping
from typing import Any

from pagedkv.recording.page.axes import time_axis
from pagedkv.recording.page.course import course_plots
from pagedkv.recording.page.distributions import distribution_plots
from pagedkv.recording.page.findings import finding_cards, timeline_plot, verdict
from pagedkv.recording.page.pool import pool_plots
from pagedkv.recording.page.style import style
from pagedkv.recording.run import RunRecord
from pagedkv.report.document import document
from pagedkv.report.html import Markup, element, joined
from pagedkv.report.numbers import count, duration, percent

__all__ = ["headline", "render_page"]

_NS_PER_S = 1e9


def headline(record: RunRecord) -> str:
    """What was found, in one line."""
    return verdict(record.findings)


def render_page(record: RunRecord) -> str:
    """A whole HTML document, which needs no other file, no script and no network."""
    title = f"pagedkv run: {headline(record)}"
    skip = element("a", "Skip to the plots", href="#plots", class_="skip")
    return document(title, skip, element("main", *_sections(record)), style=style())


def _sections(record: RunRecord) -> Iterator[Markup]:
    yield element("header", element("h1", f"pagedkv run: {headline(record)}"), _about(record))
    yield joined(*finding_cards(record))
    yield element("ul", *(_tile(*each) for each in _tiles(record)), class_="tiles")
    if not record.num_steps:
        yield element("p", "The run has no step: there is nothing to plot.")
    else:
        axis = time_axis(record)
        yield element("h2", "The run", id="plots")
        yield element(
            "div",
            *timeline_plot(record, axis),
            *pool_plots(record, axis),
            *course_plots(record, axis),
            *distribution_plots(record),
            class_="grid-plots",
        )
    yield element("h2", "Settings")
    yield element("div", *_settings(record), class_="settings")


def _about(record: RunRecord) -> Markup:
    facts = {
        name.replace("_", " "): _text(value) for name, value in record.about.items() if value is not None
    }
    if record.num_examined < record.num_steps:
        facts["examined"] = f"the last {record.num_examined:,} of {record.num_steps:,} steps"
    rows = (element("div", element("dt", name), element("dd", text)) for name, text in facts.items() if text)
    return element("dl", *rows, class_="evidence") if facts else Markup("")


def _tiles(record: RunRecord) -> Iterator[tuple[str, str]]:
    steps, found = record.steps, record.distributions
    seconds = (record.stop_ns - record.start_ns) / _NS_PER_S
    yield count(record.num_steps), "steps"
    yield duration(seconds), "from first to last step"
    yield count(steps.total("num_sampled")), "tokens sampled"
    yield f"{steps.total('num_sampled') / max(1e-9, seconds):,.0f}", "tokens a second"
    yield f"{steps.total('batch_size') / max(1, record.num_steps):.1f}", "sequences in a step, mean"
    for name, what in (("ttft_ns", "to first token"), ("inter_token_ns", "between tokens")):
        if found[name].count:
            p50, p99 = (duration(found[name].percentile(each) / _NS_PER_S) for each in (50, 99))
            yield f"{p50} / {p99}", f"{what}, p50 / p99"
    cached = steps.total("num_hit_blocks") * (record.settings["cache"] or {})["block_size"]
    if cached:
        yield percent(cached / (cached + steps.total("num_prefill_tokens"))), "of prompt tokens cached"
    yield count(steps.total("num_preempted")), "preemptions"
    yield count(steps.total("num_copies")), "blocks copied"


def _tile(number: str, label: str) -> Markup:
    return element("li", element("b", number), label)


def _settings(record: RunRecord) -> Iterator[Markup]:
    for name, values in record.settings.items():
        yield element("section", element("h3", name), _table(values))


def _table(values: Mapping[str, Any] | None) -> Markup:
    if values is None:
        return element("p", "none", class_="muted")
    rows = (
        element("tr", element("th", name, scope="row", class_="name"), element("td", _text(value)))
        for name, value in values.items()
    )
    return element("table", element("tbody", *rows))


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return "none" if value is None else str(value)
