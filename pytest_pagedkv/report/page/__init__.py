"""A run as one page of HTML with plots: no other file, no network, readable without its script."""

from pytest_pagedkv.report.page.document import render_page

__all__ = ["render_page"]
