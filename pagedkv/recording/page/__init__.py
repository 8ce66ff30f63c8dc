"""The page of a run: one HTML file."""

from pagedkv.recording.page.document import headline, render_page

__all__ = ["headline", "render_page"]
