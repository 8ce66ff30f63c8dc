"""The page's style and its script, which become part of it."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from pagedkv.report.document import base_style

__all__ = ["MARKERS", "script", "style"]

MARKERS: Mapping[str, float] = {"screen": 2.0, "confirm": 2.5, "base": 2.0, "head": 2.0, "stored": 2.5}
"""Radii of dots, by their style."""


@cache
def style() -> str:
    """The content of the page's `<style>`."""
    return base_style() + _part("page.css")


def script() -> str:
    """The content of the page's `<script>`; the page can be read without it."""
    return _part("page.js")


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
