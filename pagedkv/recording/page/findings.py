"""What the detectors found: in words first, then when it was so."""

from collections.abc import Iterator, Mapping, Sequence

from pagedkv.pitfalls import Finding, Pitfall, Severity
from pagedkv.recording.page.axes import TimeAxis
from pagedkv.recording.run import Episode, RunRecord
from pagedkv.report.axis import Scale
from pagedkv.report.fluid import Panel, bars, fluid_figure, legend
from pagedkv.report.html import Markup, element, joined
from pagedkv.report.numbers import duration

__all__ = ["NAMES", "finding_cards", "timeline_plot", "verdict"]

NAMES: Mapping[Pitfall, str] = {
    Pitfall.FRAGMENTATION: "fragmentation",
    Pitfall.COW_EXPLOSION: "copy-on-write explosion",
    Pitfall.BATCH_COLLAPSE: "batch collapse",
    Pitfall.OFFLOAD_THRASH: "offload thrash",
    Pitfall.LATENCY_SPIKE: "latency spikes",
}
_STYLES = {Severity.WARNING: "warn", Severity.CRITICAL: "bad"}
_LANE = 16.0
_NS_PER_S = 1e9


def verdict(findings: Sequence[Finding]) -> str:
    """What was found, in one line."""
    if not findings:
        return "healthy, no pitfall found"
    return ", ".join(f"{NAMES[each.pitfall]} ({each.severity.name.lower()})" for each in findings)


def finding_cards(record: RunRecord) -> Iterator[Markup]:
    """Each finding with its numbers, and what to change."""
    if not record.findings:
        yield element("p", _healthy(record), class_="verdict good")
    for each in record.findings:
        style = _STYLES[each.severity]
        yield element(
            "section",
            element(
                "h2",
                f"{NAMES[each.pitfall].capitalize()} ",
                element("span", each.severity.name.lower(), class_=f"badge {style}"),
            ),
            element("p", f"{_sentence(each.summary)}.", class_="summary"),
            _advice(each),
            element("h3", "Evidence"),
            _evidence(each.evidence),
            class_=f"finding {style}",
        )


def timeline_plot(record: RunRecord, axis: TimeAxis) -> Iterator[Markup]:
    """When which pitfall was there; nothing if none ever was."""
    lanes: dict[Pitfall, list[Episode]] = {}
    for episode in record.timeline:
        lanes.setdefault(episode.finding.pitfall, []).append(episode)
    if not lanes:
        return
    panels = [_lane(NAMES[pitfall], lanes[pitfall], axis) for pitfall in Pitfall if pitfall in lanes]
    yield fluid_figure(
        "When it was so",
        "Detectors looked at 512 steps at a time. A pitfall that comes and goes need not be one of the whole "
        "run.",
        "Timeline of findings. " + " ".join(_told(each, axis) for each in record.timeline),
        *panels,
        x=axis.scale,
        x_ticks=axis.ticks,
        keys=legend(("critical", "critical"), ("warning", "warning")),
        class_="full",
    )
    yield element(
        "details",
        element("summary", "In words"),
        element("ul", *(element("li", _told(each, axis)) for each in record.timeline), class_="notes"),
    )


def _healthy(record: RunRecord) -> str:
    short = sorted({NAMES[each.finding.pitfall] for each in record.timeline})
    passing = f" For a while there was {' and '.join(short)}; see below." if short else ""
    steps = f"{record.num_examined:,} step{'s' * (record.num_examined != 1)}"
    return f"The detectors looked at {steps} and found none of the five pitfalls.{passing}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _advice(finding: Finding) -> Markup:
    rows = (
        element("li", element("b", each.change), element("span", f" \N{EN DASH} {each.effect}."))
        for each in finding.advice
    )
    return joined(element("h3", "What to change, best first"), element("ol", *rows, class_="advice"))


def _evidence(evidence: Mapping[str, float]) -> Markup:
    rows = (
        element("div", element("dt", name), element("dd", f"{value:.4g}" if value % 1 else f"{value:,.0f}"))
        for name, value in evidence.items()
    )
    return element("dl", *rows, class_="evidence")


def _lane(name: str, episodes: Sequence[Episode], axis: TimeAxis) -> Panel:
    shapes = []
    for severity, style in ((Severity.WARNING, "warning"), (Severity.CRITICAL, "critical")):
        found = [
            (axis(each.start_ns), max(axis(each.start_ns) + 3, axis(each.stop_ns)), 2.0)
            for each in episodes
            if each.finding.severity is severity
        ]
        shapes.append(bars(style, found, _LANE - 2))
    return Panel(height=_LANE, y=Scale(0, 1, _LANE, 0), y_ticks=[], shapes=shapes, name=name)


def _told(episode: Episode, axis: TimeAxis) -> str:
    begin, end = ((at - axis.start_ns) / _NS_PER_S for at in (episode.start_ns, episode.stop_ns))
    finding, steps = episode.finding, f"{episode.start_step:,} to {episode.stop_step - 1:,}"
    return (
        f"{NAMES[finding.pitfall].capitalize()} ({finding.severity.name.lower()}) from {duration(begin)} to "
        f"{duration(end)}, steps {steps}. {_sentence(finding.summary)}."
    )
