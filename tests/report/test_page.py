"""The page: well formed, readable without sight, script or network, and not too large."""

import base64
import hashlib
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from pytest_pagedkv.report.page import render_page
from tests.report.runs import (
    benchmark,
    duet,
    failed,
    failing_run,
    large_run,
    passing_run,
    run_file,
    stored,
    timing,
)


def parsed(run: dict[str, Any]) -> ElementTree.Element:
    """The page as a tree; a reader of XML takes it but for script, style and attributes without a value."""
    text = render_page(run).removeprefix("<!DOCTYPE html>\n")
    text = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r" (hidden|open)(?=[ >])(?=[^<]*>)", r' \1=""', text)
    return ElementTree.fromstring(text)  # noqa: S314 # our own text


@pytest.mark.parametrize("run", [passing_run(), failing_run(), run_file(), run_file(against=None)])
def test_it_is_well_formed(run: dict[str, Any]) -> None:
    """Every element ends where it must, in every kind of run."""
    page = parsed(run)

    assert page.get("lang") == "en"
    assert len(page.findall(".//h1")) == 1


def test_it_loads_nothing() -> None:
    """The policy allows its own style and script by their hashes, and nothing else is referred to."""
    text = render_page(failing_run())

    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for part in ("style", "script"):
        content = re.search(f"<{part}>(.*?)</{part}>", text, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        assert f"{part}-src &#x27;sha256-{digest}&#x27;" in policy[1]
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert not re.search(r'(src|href)="(?!#)', text)
    assert "http://" not in text
    assert "https://" not in text


def test_every_link_has_its_target() -> None:
    """The rows lead to the benchmarks, and no id is there twice."""
    page = parsed(failing_run())

    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {str(link.get("href"))[1:] for link in page.iter("a")} <= set(ids)


def test_it_can_be_read_without_seeing_it() -> None:
    """Plots have a text, but for small ones whose numbers are beside; fields have labels."""
    page = parsed(failing_run())

    plots = [svg for svg in page.iter("svg") if svg.get("aria-hidden") != "true"]
    assert plots
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in plots)
    assert all(head.get("scope") in ("col", "row") for head in page.iter("th"))
    labelled = [element.tag for label in page.iter("label") for element in label]
    assert labelled == ["input", "select"]
    assert page.find(".//table/caption") is not None
    levels = [int(element.tag[1]) for element in page.iter() if element.tag in ("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_no_status_is_told_by_colour_alone() -> None:
    """Each has its word."""
    text = "".join(parsed(failing_run()).itertext())

    for word in ("FAIL", "failed otherwise", "too noisy", "improved", "incomparable", "new", "not run"):
        assert word in text


def test_only_failures_are_open() -> None:
    """What needs somebody is there at once."""
    page = parsed(run_file(failed(), benchmark()))

    assert [details.get("open") is not None for details in page.iter("details")] == [True, False]


def test_a_benchmark_has_its_plots() -> None:
    """Pairs, distribution and history; the stages are told apart."""
    page = parsed(run_file(failed(stored=stored())))

    titles = [element.text for element in page.findall(".//figure/h3")]
    assert titles == ["Paired rounds", "Distribution", "History of stored timings"]
    styles = [str(path.get("class")) for path in page.iter("path")]
    assert styles.count("dots screen") == 1
    assert styles.count("dots confirm") == 5  # four pairs, and the dot in the table
    texts = [element.text for element in page.iter("text")]
    assert {"screen", "confirm 1", "confirm 4", "+7%", "-7%", "this run"} <= set(texts)


def test_a_round_that_is_far_off_is_not_hidden() -> None:
    """It gets an arrow at the edge, and the scale stays with the others."""
    one = duet(0.0, seed=2)
    one["pairs"][0]["head_ns"] = [652_000.0 * (1 + index / 3000) for index in range(29)] + [6_520_000.0]
    one["pairs"][0]["base_ns"] = [652_000.0] * 30
    page = parsed(run_file(benchmark(duet=one)))

    assert len([path for path in page.iter("path") if path.get("class") == "mark"]) == 2
    texts = [element.text or "" for element in page.iter("text")]
    assert "1 off, to 6.52\N{NO-BREAK SPACE}ms" in texts
    assert not [text for text in texts if text.endswith("%") and abs(float(text[:-1])) > 10]


def test_a_timing_alone_is_a_distribution() -> None:
    """Without another commit, this run's own rounds are shown."""
    page = parsed(run_file(benchmark(timing=timing()), against=None))

    assert [element.text for element in page.findall(".//figure/h3")] == ["Distribution"]


def test_counters_that_moved_have_a_table() -> None:
    """What they were compared with, before, now, change; the others follow in a line."""
    page = parsed(run_file(failed(duet=None)))

    (row,) = page.findall(".//details//tbody/tr")
    assert [cell.text for cell in row] == ["cow_copies", "stored baseline", "0", "128", "worse"]
    assert "Unchanged: blocks_allocated 640" in "".join(page.itertext())


def test_200_benchmarks_are_about_a_megabyte() -> None:
    """Each with pairs, distribution and history."""
    assert len(render_page(large_run(200)).encode()) < 1_150_000


def test_times_of_a_gpu_have_their_unit() -> None:
    """They are stored in nanoseconds, not in multiples of a reference workload."""
    one = stored(metric="cuda", history=[2e6, 2.1e6, 2e6], centre=2.2e6, baseline_centre=2e6)
    text = "".join(parsed(run_file(benchmark(stored=one))).itertext())

    assert "2.0\N{NO-BREAK SPACE}ms" in text or "2.00\N{NO-BREAK SPACE}ms" in text
    assert "Time (cuda); band" in text
    assert "reference workload's;" not in text
