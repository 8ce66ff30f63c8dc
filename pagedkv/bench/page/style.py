"""The style of the page, and of the series in its plots."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from pagedkv.report.document import base_style

__all__ = ["MARKERS", "series_style", "style"]

MARKERS: Mapping[str, float] = dict.fromkeys(("s0", "s1", "s2", "s3", "s4", "s5"), 3.0)
"""Radii of the dots of each series; s0 is ours."""


@cache
def style() -> str:
    """The content of the page's `<style>`."""
    return base_style() + files(__package__).joinpath("page.css").read_text("utf-8")


def series_style(index: int) -> str:
    """The style of a series, by its number; ours is 0. There are as many as peers that could run at once."""
    return f"s{min(index, len(MARKERS) - 1)}"
