"""The style of the page."""

from functools import cache
from importlib.resources import files

from pagedkv.report.document import base_style
from pagedkv.report.fluid import fluid_style

__all__ = ["style"]


@cache
def style() -> str:
    """The content of the page's `<style>`."""
    return base_style() + fluid_style() + files(__package__).joinpath("page.css").read_text("utf-8")
