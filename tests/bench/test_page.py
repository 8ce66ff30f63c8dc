"""The page: well formed, with every number that the tables have, and nothing from outside."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pagedkv.bench.cases import KERNELS
from pagedkv.bench.page import render_page
from pagedkv.bench.results import Run
from tests.bench.runs import full_run, troubled_run


def parsed(run: Run) -> ElementTree.Element:
    """The page as a tree."""
    text = render_page(run).removeprefix("<!DOCTYPE html>\n")
    return ElementTree.fromstring(re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))  # noqa: S314 # ours


def empty_run() -> Run:
    """Ctrl-C before the first shape was done."""
    return replace(full_run(), rows=[], is_interrupted=True)


@pytest.mark.parametrize("run", [full_run(), troubled_run(), empty_run()])
def test_it_is_well_formed(run: Run) -> None:
    """Every element ends where it must, and there is one title."""
    page = parsed(run)

    assert page.get("lang") == "en"
    assert [title.text for title in page.findall(".//h1")] == [
        "pagedkv bench kernels: A Processor <of 2 cores>"
    ]


def test_it_loads_nothing_and_runs_nothing() -> None:
    """There is no script, and the policy lets nothing in but the style."""
    text = render_page(full_run())

    assert "default-src &#x27;none&#x27;; style-src &#x27;sha256-" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="', text)
    assert "://" not in text


def test_every_shape_is_in_a_table() -> None:
    """A row for each shape, with the share of the floor and the ratio to the peer."""
    run = full_run()
    page = parsed(run)

    rows = [row for row in page.findall(".//tbody/tr") if len(row) > 4]
    assert len(rows) == len(run.rows)
    assert rows[0][0].text == run.rows[0].case.label
    assert [cell.text for cell in rows[0]][-1] == "0.50 0.50"
    assert "".join(rows[0][5].itertext()) == "50%"


def test_plots_are_told_to_those_who_do_not_see_them() -> None:
    """Each has a text with its numbers; kernels with several lengths have plots against length."""
    page = parsed(full_run())

    told = [svg.get("aria-label") or "" for svg in page.findall(".//svg[@role='img']")]
    assert told[0].startswith("Share of the floor. paged_decode fp32: median 50%; ")
    assert sum(text.startswith("Our time over that of peers.") for text in told) == len(KERNELS)
    assert sum(text.startswith("Time against length. ours: ") for text in told) >= 2 * len(KERNELS)


def test_trouble_comes_first() -> None:
    """What is wrong stands before the plots; what was not measured behind them, with its reason."""
    text = render_page(troubled_run())

    assert (
        text.index("Interrupted after 4 of 6")
        < text.index("Wrong results and failures (2)")
        < text.index("<h3>")
    )
    assert text.index("<h3>") < text.index("needs about 90.0 GiB")
    assert "flashinfer on 3 shapes: flashinfer is not installed" in text
