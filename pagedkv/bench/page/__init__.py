"""A run as one page of HTML with plots: no other file, no network, no script."""

from pagedkv.bench.page.document import render_page

__all__ = ["render_page"]
