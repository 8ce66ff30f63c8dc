"""The page from top to bottom."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from pagedkv.bench.cases import KERNELS
from pagedkv.bench.page.plots import grouped, length_plots, ratio_plot, share_plot
from pagedkv.bench.page.style import MARKERS, style
from pagedkv.bench.results import OURS, Row, Run
from pagedkv.bench.table import about
from pagedkv.bench.wording import duration, percent, ratio, ratios, reasons
from pagedkv.report.document import document
from pagedkv.report.html import Markup, element, joined
from pagedkv.report.marks import markers

__all__ = ["render_page"]

_HOW_TO_READ = {
    "Floor": (
        "The least time that this machine needs for the bytes and operations that a kernel must do: "
        "the bytes at the bandwidth or the operations at the matrix rate that it was measured to have."
    ),
    "Time": "With cold caches, contestants in turns. Best and median of the calls.",
    "x NAME": (
        "Our time / the peer's: below 1 we are quicker. First the median of the ratios round by round, then "
        "the ratio of the best calls; where they differ, something disturbed."
    ),
    "Error": "The largest |out - ref| / |ref| of any timed call, against 64 bits; 0 is exact.",
}


def render_page(run: Run) -> str:
    """A whole HTML document."""
    title = f"pagedkv bench kernels: {run.machine.gpu or run.machine.cpu}"
    return document(title, markers(MARKERS), element("main", *_sections(run, title)), style=style())


def _sections(run: Run, title: str) -> Iterator[Markup]:
    yield element("header", element("h1", title), _facts(dict(about(run.machine, run.limits))))
    if run.is_interrupted:
        yield element("p", f"Interrupted after {len(run.rows)} of {run.planned} shapes.", class_="warn")
    yield from _list("Wrong results and failures", _wrong(run), "bad")
    yield element("div", share_plot(run), _summary(run), class_="plots")
    for kernel in KERNELS:
        rows = [row for row in run.rows if row.case.kernel == kernel]
        if rows:
            yield element("h2", element("span", kernel, class_="name"))
            yield element("div", ratio_plot(run, kernel), *length_plots(run, kernel), class_="plots")
            yield _table(rows)
    skipped = [f"{row.case.kernel}, {row.case.label}: {row.reason}" for row in run.rows if row.reason]
    yield from _list("Shapes that were not measured", skipped)
    yield from _list("Peers that did not run", list(reasons(run)))
    yield element("h2", "How to read this page")
    yield _facts(_HOW_TO_READ)


def _summary(run: Run) -> Markup:
    """Medians over the shapes."""
    names = ("Kernel", "Dtype", "Of floor", "Our time / the peer's")
    head = (element("th", name, scope="col", class_="num" if name == "Of floor" else None) for name in names)
    rows = (_summary_row(kernel, dtype, rows) for (kernel, dtype), rows in grouped(run))
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows))
    return element("div", element("h3", "Medians over the shapes"), element("div", table, class_="wide"))


def _summary_row(kernel: str, dtype: str, rows: Sequence[Row]) -> Markup:
    shares = [share for row in rows if (share := row.floor_ratio) is not None]
    found: dict[str, list[float]] = {}
    for row in rows:
        for peer, value in row.ratios.items():
            found.setdefault(peer, []).append(value.paired)
    peers = ", ".join(
        f"{ratio(median(values))} x {peer}".replace(" ", "\N{NO-BREAK SPACE}")
        for peer, values in found.items()
    )
    return element(
        "tr",
        element("th", kernel, scope="row", class_="name"),
        element("td", dtype),
        _number(percent(median(shares)) if shares else ""),
        element("td", peers),
    )


def _facts(facts: Mapping[str, str]) -> Markup:
    found = (joined(element("dt", name), element("dd", text)) for name, text in facts.items())
    return element("dl", *found, class_="facts")


def _wrong(run: Run) -> list[str]:
    return [
        f"{row.case.kernel}, {row.case.label}: {name}: {problem}"
        for row in run.rows
        for name, problem in row.wrong.items()
    ]


def _list(title: str, lines: Sequence[str], style: str | None = None) -> Iterator[Markup]:
    if lines:
        yield element("h2", f"{title} ({len(lines)})", class_=style)
        yield element("ul", *(element("li", line) for line in lines), class_="notes")


def _table(rows: Sequence[Row]) -> Markup:
    peers = list(dict.fromkeys(name for row in rows for name in row.timings if name != OURS))
    names = (
        "Shape",
        "Best",
        "Median",
        "Floor",
        "Bound",
        "Of floor",
        "Error",
        *(f"x {peer}" for peer in peers),
    )
    head = (
        element("th", name, scope="col", class_="num" if name not in ("Shape", "Bound") else None)
        for name in names
    )
    body = (_row(row, peers) for row in rows)
    table = element("table", element("thead", element("tr", *head)), element("tbody", *body))
    return element("div", table, class_="wide")


def _row(row: Row, peers: Sequence[str]) -> Markup:
    ours, share, found = row.ours, row.floor_ratio, row.ratios
    missing = "wrong" if OURS in row.wrong else "not measured" if row.reason else ""
    cells = [
        element("th", row.case.label, scope="row"),
        _number(missing if ours is None else duration(ours.best_s)),
        _number("" if ours is None else duration(ours.median_s)),
        _number(duration(row.floor.seconds)),
        element("td", row.floor.bound, class_="muted"),
        _number("" if share is None else element("b", percent(share))),
        _number("" if ours is None else f"{ours.error:.1e}" if ours.error else "0"),
        *(_number(ratios(found[peer]) if peer in found else "") for peer in peers),
    ]
    return element("tr", *cells)


def _number(text: str) -> Markup:
    return element("td", text, class_="num")
