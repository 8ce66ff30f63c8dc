"""What plots are made of: dots, lines, bands, axes and labels, as SVG in pixels."""

from collections.abc import Iterable, Mapping, Sequence

from pagedkv.report.axis import Scale
from pagedkv.report.html import Markup, element, joined, void

__all__ = [
    "LEFT",
    "RIGHT",
    "WIDTH",
    "arrow",
    "band",
    "diamond",
    "dots",
    "figure",
    "label",
    "line",
    "markers",
    "polyline",
    "x_axis",
    "y_axis",
]

LEFT = 64
"""Where the area of a plot begins, behind the labels of its axis."""
RIGHT = 594
"""Where it ends, before the labels at its right."""
WIDTH = 640
"""Of a plot."""

_ARROWS = {"right": "l5 4-5 4z", "left": "l-5 4 5 4z", "up": "l4-5 4 5z", "down": "l4 5 4-5z"}


def figure(title: str, caption: str, told: str, height: float, *parts: Markup) -> Markup:
    """A plot with its title, what its marks mean, and a text for those who do not see it."""
    svg = element("svg", *parts, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=told)
    return element(
        "figure",
        element("h3", title),
        svg,
        element("figcaption", caption),
    )


def label(text: str, x: float, y: float, style: str) -> Markup:
    """Text; the style "middle" or "end" says which part of it is at x."""
    return element("text", text, class_=style, x=x, y=y)


def line(style: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line."""
    return void("path", class_=style, d=f"M{_pixel(x1)} {_pixel(y1)}L{_pixel(x2)} {_pixel(y2)}")


def dots(places: Iterable[tuple[float, float]], style: str) -> Markup:
    """One path for all dots, which itself is not drawn: `markers` has what stands at each of its corners."""
    corners = " ".join(f"{round(x)} {round(y)}" for x, y in places)
    return void("path", class_=f"dots {style}", d=f"M{corners}") if corners else Markup("")


def markers(radii: Mapping[str, float]) -> Markup:
    """What `dots` looks like in each style; once a page.

    Args:
        radii: pixels, by style. The style sheet says of `.dots.STYLE` that its marker is `url(#m-STYLE)`.
    """
    found = (
        element("marker", void("circle", r=r), id=f"m-{style}", markerUnits="userSpaceOnUse")
        for style, r in radii.items()
    )
    return element("svg", *found, class_="markers", aria_hidden="true")


def polyline(style: str, places: Sequence[tuple[float, float]]) -> Markup:
    """A line from place to place; nothing if there are not two."""
    if len(places) < 2:
        return Markup("")
    return void("path", class_=style, d="M" + "L".join(f"{_pixel(x)} {_pixel(y)}" for x, y in places))


def diamond(x: float, y: float) -> Markup:
    """The mark of the one value that matters."""
    return void("path", class_="mark", d=f"M{_pixel(x)} {_pixel(y - 6)}l6 6-6 6-6-6z")


def arrow(x: float, y: float, where: str) -> Markup:
    """The mark of a value not to scale, at the edge beyond which it lies: "left", "right", "up" or "down"."""
    left, top = (x - 4, y) if where in ("up", "down") else (x, y - 4)
    return void("path", class_="mark", d=f"M{_pixel(left)} {_pixel(top)}{_ARROWS[where]}")


def band(y: Scale, low: float, high: float, names: tuple[str, str] = ("", "")) -> Markup:
    """All between two values, which are named at the right."""
    area = void("rect", class_="band", x=LEFT, y=y(high), width=RIGHT - LEFT, height=y(low) - y(high))
    edges = zip(names, (low, high), strict=True)
    return joined(area, *(label(name, RIGHT + 6, y(edge) + 4, "muted") for name, edge in edges if name))


def y_axis(y: Scale, ticks: Iterable[tuple[float, str]], right: float = RIGHT) -> Markup:
    """Grid lines from left to right, each with its number."""
    found = list(ticks)
    grid = "".join(f"M{LEFT} {_pixel(y(at))}H{_pixel(right)}" for at, _ in found)
    labels = (label(text, LEFT - 8, y(at) + 4, "end") for at, text in found)
    return joined(void("path", class_="grid", d=grid), *labels)


def x_axis(x: Scale, ticks: Iterable[tuple[float, str]], bottom: float) -> Markup:
    """Grid lines from top to bottom, each with its number below."""
    found = list(ticks)
    grid = "".join(f"M{_pixel(x(at))} 4V{_pixel(bottom + 4)}" for at, _ in found)
    labels = (label(text, x(at), bottom + 18, "middle") for at, text in found)
    return joined(void("path", class_="grid", d=grid), *labels)


def _pixel(value: float) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
