"""The page of a run: well formed, readable without sight, script or network, and not too large."""

import re
from xml.etree import ElementTree

import pytest

from pagedkv.pitfalls import Pitfall
from pagedkv.recording.page import headline, render_page
from pagedkv.recording.page.findings import NAMES
from tests.recording.runs import KINDS, busy, kind, recorded

PLOTS = [
    "Pool map",
    "Blocks by state",
    "Blocks by reference count",
    "Fragmentation",
    "How scattered blocks are",
    "Blocks copied in a step",
    "Batch size, and who waits",
    "Time of a step",
    "Time to first token",
    "Between tokens",
    "Time of a step, distribution",
]


def parsed(name: str) -> ElementTree.Element:
    """The page as a tree."""
    text = render_page(kind(name)).removeprefix("<!DOCTYPE html>\n")
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return ElementTree.fromstring(text)  # noqa: S314 # our own text


def shown(page: ElementTree.Element) -> str:
    """All text of a page."""
    return " ".join("".join(page.itertext()).split())


def titles(page: ElementTree.Element) -> list[str]:
    """The titles of its plots."""
    return [figure.find("h3").text or "" for figure in page.iter("figure")]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", KINDS)
def test_it_is_well_formed(name: str) -> None:
    """Every element ends where it must, and no number went wrong."""
    page = parsed(name)

    assert page.get("lang") == "en"
    assert len(page.findall(".//h1")) == 1
    assert page.find(".//title").text == f"pagedkv run: {headline(kind(name))}"  # type: ignore[union-attr]
    for path in page.iter("path"):
        assert re.fullmatch(r"[-MmLlHhVvz0-9. ]+", path.get("d", "")), path.attrib


@pytest.mark.parametrize("name", KINDS)
def test_every_plot_has_words(name: str) -> None:
    """What a picture shows is also told to those who do not see it; a run without steps has none."""
    page = parsed(name)

    found = titles(page)
    assert [title for title in found if title in PLOTS] == ([] if name == "empty" else PLOTS)
    for figure in page.iter("figure"):
        (svg,) = (each for each in figure.iter("svg") if each.get("class") == "fluid")
        assert svg.get("role") == "img"
        assert len(svg.get("aria-label", "")) > 20
        assert figure.find("figcaption") is not None
    assert ("Traffic with the tiers" in found) == (name in ("offload_thrash", "latency_spike"))
    assert ("When it was so" in found) == bool(kind(name).timeline)


@pytest.mark.parametrize("pitfall", list(Pitfall))
def test_a_sick_run_begins_with_what_is_wrong(pitfall: Pitfall) -> None:
    """The verdict, the evidence and the advice, before any picture."""
    page = parsed(pitfall.value)
    text = shown(page)
    before = text[: text.index("Pool map")]

    assert f"pagedkv run: {NAMES[pitfall]}" in before
    for finding in kind(pitfall.value).findings:
        assert finding.summary[1:] in before
        for advice in finding.advice:
            assert advice.change in before
            assert advice.effect in before
        for name in finding.evidence:
            assert name in before


def test_a_healthy_run_says_so() -> None:
    """In words, not by colour."""
    text = shown(parsed("healthy"))

    assert "healthy, no pitfall found" in text
    assert f"looked at {kind('healthy').num_steps:,} steps and found none of the five pitfalls" in text
    assert 'made <up> & "quoted"' in text
    assert "num_blocks400" in text
    assert "there is nothing to plot" in shown(parsed("empty"))


def test_it_loads_nothing() -> None:
    """No script, no address, and a policy that lets nothing in."""
    text = render_page(kind("offload_thrash"))

    assert "default-src &#x27;none&#x27;" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!#)', text)
    assert "://" not in text
    assert 'style="' not in text


def test_it_stays_small() -> None:
    """A long run in a large pool whose blocks change all the time is below half a megabyte."""
    record = recorded(busy(num_requests=300))[0].record()
    cells = ["".join(".cus"[(row + 3 * column) % 4] for row in range(256)) for column in range(192)]
    assert len(record.looks) <= len(cells)
    record.looks.cells[:] = cells[: len(record.looks)]  # type: ignore[index]

    assert len(render_page(record).encode()) < 500_000


def test_the_map_shows_every_cell() -> None:
    """The strokes of its states cover as much as there are cells in these states."""
    record = kind("healthy")
    page = parsed("healthy")
    (drawn,) = (each for each in page.iter("svg") if each.get("class") == "map")
    (ground,) = drawn.findall("rect")
    area = sum(
        int(length) for path in drawn.iter("path") for length in re.findall(r"h(\d+)", path.get("d", ""))
    )
    ends = [*record.looks.columns["now_ns"][1:], record.stop_ns]
    width = 1000 / (record.stop_ns - record.start_ns)
    expected = sum(
        (end - begin) * width * sum(cell != "." for cell in cells)
        for begin, end, cells in zip(record.looks.columns["now_ns"], ends, record.looks.cells, strict=True)
    )
    assert float(ground.get("height", 0)) == len(record.looks.cells[0])
    assert area == pytest.approx(expected, rel=0.02)
