"""The page as a browser shows it: everything is there, nothing sticks out, and nobody complains."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pagedkv.recording.page import render_page
from pagedkv.report.document import document
from pagedkv.report.html import Markup
from tests.browser import Tab, browser
from tests.recording.runs import KINDS, kind

DESKTOP, PHONE, SMALL_PHONE = 1280, 390, 320

BROKEN = {
    "an error of the script": document("x", Markup("<p>x</p>"), style="", script="nothing.at.all()"),
    "a script that the policy forbids": document("x", Markup("<script>1</script>"), style=""),
    "a style that the policy forbids": document("x", Markup('<p style="color: red">x</p>'), style=""),
    "a picture from elsewhere": document("x", Markup('<img src="file:///nowhere.png">'), style=""),
    "a message": document("x", Markup("<p>x</p>"), style="", script='console.error("no")'),
}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A tab of a browser with a fresh profile."""
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started.tab()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of all kinds of runs."""
    folder = tmp_path_factory.mktemp("pages")
    for name in KINDS:
        (folder / f"{name}.html").write_text(render_page(kind(name)), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in KINDS}


@pytest.mark.parametrize("width", [DESKTOP, PHONE, SMALL_PHONE])
@pytest.mark.parametrize("name", KINDS)
def test_it_is_shown(tab: Tab, pages: dict[str, Path], name: str, width: int) -> None:
    """The verdict can be read, every plot has a size and lies within the page, and nothing else is loaded."""
    tab.open(pages[name], width=width)

    assert tab.complaints == []
    assert tab.requested == [pages[name].as_uri()]
    assert tab.ask("document.documentElement.scrollWidth") <= width
    verdict = tab.ask("document.querySelector('h1').innerText")
    assert verdict == tab.ask("document.title")
    assert tab.ask("document.querySelector('h1').getBoundingClientRect().bottom") < 200
    sizes = tab.ask(
        "[...document.querySelectorAll('svg.fluid')].map((each) => each.getBoundingClientRect())"
        ".map((box) => [box.left, box.right, box.height])"
    )
    assert len(sizes) == (0 if name == "empty" else len(sizes)) >= (0 if name == "empty" else 11)
    for left, right, height in sizes:
        assert 0 <= left < left + 150 < right <= width
        assert height > 30


@pytest.mark.parametrize("width", [DESKTOP, SMALL_PHONE])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "empty"])
def test_labels_can_be_read(tab: Tab, pages: dict[str, Path], name: str, width: int) -> None:
    """Text of plots is as large on a phone, within the page, and labels of an axis do not overlap."""
    tab.open(pages[name], width=width)

    texts = tab.ask(
        "[...document.querySelectorAll('svg.fluid text')].map((each) => ({"
        "text: each.textContent, size: parseFloat(getComputedStyle(each).fontSize),"
        "box: each.getBoundingClientRect().toJSON(), axis: each.classList.contains('muted')}))"
    )
    assert len(texts) > 60
    for each in texts:
        assert each["size"] >= 11, each
        assert each["box"]["left"] >= 0, each
        assert each["box"]["right"] <= width, each
    labels = [each for each in texts if each["axis"]]
    for first, second in pairwise(labels):
        one, other = first["box"], second["box"]
        apart = max(one["left"], other["left"]) >= min(one["right"], other["right"])
        below = max(one["top"], other["top"]) + 4 >= min(one["bottom"], other["bottom"])
        assert apart or below, (first, second)


def test_light_and_dark(tab: Tab, pages: dict[str, Path]) -> None:
    """Text stands out from its ground in both, by 4.5 to 1 and more."""
    for scheme in ("light", "dark"):
        tab.open(pages["cow_explosion"], width=DESKTOP, scheme=scheme)
        assert tab.complaints == []
        ground = luminance(tab.ask("getComputedStyle(document.body).backgroundColor"))
        assert (ground < 0.1) == (scheme == "dark")
        for selector in ("h1", "figcaption", ".evidence dt", ".badge", ".legend"):
            color = tab.ask(f"getComputedStyle(document.querySelector('{selector}')).color")
            lighter, darker = sorted((luminance(color), ground), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (scheme, selector)


def test_the_map_is_drawn_to_its_last_row(tab: Tab, pages: dict[str, Path]) -> None:
    """The strokes of the pool map fill it, however wide it is."""
    for width in (DESKTOP, PHONE):
        tab.open(pages["healthy"], width=width)
        frame, strokes = tab.ask(
            "['.map rect', '.map .in-use'].map((each) =>"
            " document.querySelector(each).getBoundingClientRect().toJSON())"
        )
        assert strokes["height"] == pytest.approx(frame["height"], rel=0.05)
        assert strokes["width"] > 0.8 * frame["width"]


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_page_is_noticed(tab: Tab, tmp_path: Path, what: str) -> None:
    """What the other tests do not want to see would be seen."""
    path = tmp_path / "broken.html"
    path.write_text(BROKEN[what], encoding="utf-8")

    tab.open(path, width=DESKTOP)

    assert tab.complaints, what


def test_a_page_that_is_too_wide_is_noticed(tab: Tab, tmp_path: Path) -> None:
    """Likewise."""
    path = tmp_path / "wide.html"
    path.write_text(document("x", Markup("<pre>" + "x" * 500 + "</pre>"), style=""), encoding="utf-8")

    tab.open(path, width=PHONE)

    assert tab.ask("document.documentElement.scrollWidth") > PHONE


def luminance(color: str) -> float:
    """Relative luminance of "rgb(r, g, b)", as WCAG 2 defines it."""
    parts = [int(each) / 255 for each in color.removeprefix("rgb(").removesuffix(")").split(", ")]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
