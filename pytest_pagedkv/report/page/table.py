"""The overview of all benchmarks, a row each, and the filters above it."""

from collections.abc import Iterator, Mapping, Sequence

from pagedkv.report.html import Markup, element, joined, void
from pytest_pagedkv.report.page.plots import forest_plot
from pytest_pagedkv.report.runfile import Benchmark
from pytest_pagedkv.report.status import Status, effect_of, is_failure
from pytest_pagedkv.report.wording import evidence, interval, moved, percent, shown_duration

__all__ = ["badge", "overview"]

_GLYPHS = {
    Status.FAILED: "\N{HEAVY MULTIPLICATION X}",
    Status.BROKEN: "\N{HEAVY MULTIPLICATION X}",
    Status.NOISY: "\N{ALMOST EQUAL TO}",
    Status.IMPROVED: "\N{CHECK MARK}",
    Status.DIFFERENT: "\N{NOT EQUAL TO}",
    Status.INCOMPARABLE: "?",
    Status.NEW: "+",
    Status.SAME: "\N{MIDDLE DOT}",
    Status.UNJUDGED: "\N{EN DASH}",
    Status.NOT_RUN: "\N{EN DASH}",
}
_MAX_MOVED = 3
_WIDEST = 1.0
"""The plots of the changes reach to twofold time at most; what is beyond gets an arrow."""


def badge(word: Status) -> Markup:
    """A status, told by a word and a sign, and by its colour."""
    style = "bad" if is_failure(word) else "good" if word is Status.IMPROVED else ""
    if word in (Status.NOISY, Status.DIFFERENT, Status.INCOMPARABLE, Status.NEW):
        style = "warn"
    sign = element("span", _GLYPHS[word], aria_hidden="true")
    return element("span", sign, " ", word.value, class_=f"status {style}".strip())


def overview(groups: Mapping[Status, Sequence[Benchmark]], ids: Mapping[str, str]) -> Markup:
    """The table with its filters.

    Args:
        groups: the benchmarks by status, in the order of the rows.
        ids: the element of the page that tells all about a benchmark, by key.
    """
    rows = [(word, benchmark) for word, benchmarks in groups.items() for benchmark in benchmarks]
    reach = _reach([benchmark for _, benchmark in rows])
    body = [_row(index, word, each, ids[each.key], reach) for index, (word, each) in enumerate(rows)]
    caption = element("caption", _caption(reach))
    table = element("table", caption, _head(), element("tbody", *body), class_="overview")
    return joined(_filters(list(groups)), element("div", table, class_="wide"))


def _filters(words: Sequence[Status]) -> Markup:
    """Hidden until the script is there that they need."""
    options = [
        element("option", "all", value=""),
        *(element("option", w.value, value=w.name.lower()) for w in words),
    ]
    return element(
        "form",
        element("label", "Filter by name", void("input", type="search", autocomplete="off")),
        element("label", "Status", element("select", *options)),
        element("output", class_="muted", aria_live="polite"),
        class_="filters",
        hidden=True,
    )


def _caption(reach: float) -> str:
    edge = percent(reach, sign=False)
    return (
        "Changes of time are head against base: a dot with its interval over the band of the threshold; "
        f"the edges are -{edge} and +{edge}, an arrow lies beyond."
    )


def _head() -> Markup:
    names = (
        "Status",
        "Benchmark",
        "Base",
        "Head",
        "Change",
        "Interval",
        "Plot",
        "Counters that moved",
    )
    cells = (
        element("th", name, scope="col", class_="num" if name in ("Base", "Head", "Change") else None)
        for name in names
    )
    return element("thead", element("tr", *cells))


def _row(index: int, word: Status, benchmark: Benchmark, anchor: str, reach: float) -> Markup:
    duet, effect = benchmark.duet, effect_of(benchmark)
    cells = [
        _cell(joined(badge(word), _verdict(word, benchmark)), sort=index),
        element(
            "th",
            element("a", _named(benchmark.key), href=f"#{anchor}"),
            scope="row",
            class_="name",
        ),
        _time(duet.base_ns if duet else None),
        _time(duet.head_ns if duet else None),
        _cell("" if effect is None else percent(effect), sort=effect, style="num"),
        _cell(_limits(benchmark), sort=benchmark.threshold, style="limits"),
        _cell(_forest(benchmark, reach), sort=effect),
        _cell(joined(*_moved(benchmark)), sort=len(moved(benchmark)), style="counters"),
    ]
    return element("tr", *cells, data_status=word.name.lower())


def _verdict(word: Status, benchmark: Benchmark) -> Markup:
    """In which way it failed."""
    is_told = word in (Status.FAILED, Status.DIFFERENT) and benchmark.verdict
    return joined(" ", element("span", benchmark.verdict, class_="muted")) if is_told else Markup("")


def _cell(content: str, *, sort: float | None, style: str | None = None) -> Markup:
    return element("td", content, class_=style, data_sort=None if sort is None else f"{sort:.6g}")


def _time(nanoseconds: float | None) -> Markup:
    shown = "" if nanoseconds is None else shown_duration(nanoseconds)
    return _cell(shown, sort=nanoseconds, style="num")


def _limits(benchmark: Benchmark) -> str:
    duet = benchmark.duet
    if duet is None or duet.effect is None:
        return "; ".join(evidence(benchmark))
    return ", ".join(part for part in (interval(duet.low, duet.high), duet.detail) if part)


def _forest(benchmark: Benchmark, reach: float) -> Markup:
    duet = benchmark.duet
    return Markup("") if duet is None or duet.effect is None else forest_plot(duet, reach)


def _named(key: str) -> Markup:
    """The name, which may break behind its file."""
    file, separator, test = key.partition("::")
    return joined(file + separator, void("wbr"), test)


def _moved(benchmark: Benchmark) -> Iterator[Markup]:
    lines = moved(benchmark)
    yield from (element("span", line) for line in lines[:_MAX_MOVED])
    if len(lines) > _MAX_MOVED:
        yield element("span", f"+{len(lines) - _MAX_MOVED} more", class_="muted")


def _reach(benchmarks: Sequence[Benchmark]) -> float:
    """The edge of all plots: a round number beyond twice the thresholds and most changes."""
    duets = [each.duet for each in benchmarks if each.duet is not None and each.duet.effect is not None]
    sizes = [abs(duet.effect or 0.0) for duet in duets] + [2 * (duet.threshold or 0.0) for duet in duets]
    widest = min(max(sizes, default=0.0), _WIDEST)
    return next(step for step in (0.1, 0.2, 0.3, 0.5, _WIDEST) if widest <= step)
