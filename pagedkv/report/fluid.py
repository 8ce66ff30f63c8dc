"""Plots that are as wide as the page, whose text keeps its size: of panels, one below the other.

Shapes stretch with the page, text and the width of lines do not, so that a plot can be read on a phone. The
style sheet is `fluid.css`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pagedkv.report.axis import Scale
from pagedkv.report.html import Markup, element, joined, void

__all__ = [
    "ACROSS",
    "Panel",
    "area",
    "bars",
    "fluid_figure",
    "fluid_style",
    "legend",
    "line",
    "steps",
    "swatch",
    "treads",
]

ACROSS = 1000.0
"""Units from the left edge of a panel to its right one."""

_ABOVE = 8
_NAME = 18
_BETWEEN = 14
_X_LABELS = 24
_VERY_END = 0.985 * ACROSS


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One of a plot's areas.

    Attributes:
        height: pixels.
        y: the scale from numbers to pixels below the panel's upper edge.
        y_ticks: numbers with their text, at the left.
        shapes: what is drawn, in units of `ACROSS` and pixels.
        marks: what is not stretched: text, whose x is a share such as "12%".
        name: what is above it.
    """

    height: float
    y: Scale
    y_ticks: Sequence[tuple[float, str]]
    shapes: Sequence[Markup]
    marks: Sequence[Markup] = ()
    name: str = ""


def fluid_figure(
    title: str,
    caption: str,
    told: str,
    *panels: Panel,
    x: Scale,
    x_ticks: Sequence[tuple[float, str]],
    keys: Markup | None = None,
    class_: str | None = None,
) -> Markup:
    """A plot with its title, its legend, what it means, and a text for those who do not see it.

    Args:
        title: of the plot.
        caption: what it shows, below it.
        told: what a screen reader says instead of the picture.
        panels: from top to bottom, with a common x axis.
        x: the scale from numbers to units of `ACROSS`.
        x_ticks: numbers with their text, below the last panel.
        keys: a `legend`.
        class_: of the figure.
    """
    parts: list[Markup] = []
    top = float(_ABOVE)
    for panel in panels:
        top += _NAME if panel.name else 0
        parts.append(_drawn(panel, x, x_ticks, top, is_last=panel is panels[-1]))
        top += panel.height + _BETWEEN
    height = top - _BETWEEN + _X_LABELS
    svg = element("svg", *parts, class_="fluid", height=height, role="img", aria_label=told)
    return element(
        "figure",
        element("h3", title),
        *([] if keys is None else [keys]),
        svg,
        element("figcaption", caption),
        class_=class_,
    )


def legend(*entries: tuple[str, str]) -> Markup:
    """What is drawn in which style: pairs of a style and a name. A line's style begins with "line"."""
    return element("ul", *(_entry(style, name) for style, name in entries), class_="legend")


def swatch(style: str) -> Markup:
    """A piece of what is drawn in this style."""
    if style.startswith("line"):
        drawn = element("svg", void("path", class_=style, d="M0 6H26"), class_="key", aria_hidden="true")
    else:
        box = void("rect", class_=style, width=14, height=12)
        drawn = element("svg", box, class_="key box", aria_hidden="true")
    return drawn


def line(style: str, places: Iterable[tuple[float, float]]) -> Markup:
    """A line from place to place; nothing without any."""
    corners = _corners(places)
    return void("path", class_=style, d=f"M{corners}") if corners else Markup("")


def steps(style: str, edges: Sequence[float], heights: Sequence[float]) -> Markup:
    """A line of `treads`."""
    return line(style, treads(edges, heights))


def treads(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    """Places of stairs: each height holds from its edge to the next; one more edge than heights."""
    flat = zip(edges, edges[1:], heights, strict=False)
    return [place for left, right, at in flat for place in ((left, at), (right, at))]


def area(style: str, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]) -> Markup:
    """All between two lines."""
    if not upper:
        return Markup("")
    return void("path", class_=style, d=f"M{_corners([*upper, *reversed(lower)])}z")


def bars(style: str, found: Iterable[tuple[float, float, float]], bottom: float) -> Markup:
    """Bars as one path: of each left edge, right edge, and upper edge."""
    shapes = "".join(
        f"M{_unit(x1)} {_unit(bottom)}V{_unit(y)}H{_unit(x2)}V{_unit(bottom)}z" for x1, x2, y in found
    )
    return void("path", class_=style, d=shapes) if shapes else Markup("")


@cache
def fluid_style() -> str:
    """The rules that these plots need."""
    return files(__package__).joinpath("fluid.css").read_text("utf-8")


def _drawn(
    panel: Panel, x: Scale, x_ticks: Sequence[tuple[float, str]], top: float, *, is_last: bool
) -> Markup:
    across = "".join(f"M0 {_unit(panel.y(at))}H{ACROSS:g}" for at, _ in panel.y_ticks)
    down = "".join(f"M{_unit(x(at))} 0V{_unit(panel.height)}" for at, _ in x_ticks)
    stretched = element(
        "svg",
        void("path", class_="grid", d=across + down),
        *panel.shapes,
        class_="stretch",
        viewBox=f"0 0 {ACROSS:g} {panel.height:g}",
        preserveAspectRatio="none",
        width="100%",
        height=panel.height,
    )
    texts = [element("text", text, class_="end muted", x=-7, y=panel.y(at) + 4) for at, text in panel.y_ticks]
    if panel.name:
        texts.append(element("text", panel.name, class_="panel", x=0, y=-6))
    if is_last:
        texts += _x_labels(x, x_ticks, panel.height)
    return element(
        "svg", stretched, *texts, *panel.marks, class_="area", y=top, width="100%", height=panel.height
    )


def _x_labels(x: Scale, ticks: Sequence[tuple[float, str]], bottom: float) -> list[Markup]:
    """Below their lines; one at the very end leaves the panel to the left only."""
    return [
        element(
            "text",
            text,
            class_="end muted" if x(at) > _VERY_END else "middle muted",
            x=f"{x(at) / ACROSS:.1%}",
            y=bottom + 17,
        )
        for at, text in ticks
    ]


def _entry(style: str, name: str) -> Markup:
    return element("li", joined(swatch(style), Markup(" "), name))


def _corners(places: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{_unit(x)} {_unit(y)}" for x, y in places)


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
