"""A page that is one file: its style and script are in it, and nothing else can come in."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from pagedkv.report.html import Markup, element, void

__all__ = ["base_style", "document"]


def document(title: str, *body: str, style: str, script: str = "") -> str:
    """A whole HTML document.

    Args:
        title: of the page.
        body: its content.
        style: the content of `<style>`.
        script: the content of `<script>`; without, there is none.
    """
    head = element(
        "head",
        void("meta", charset="utf-8"),
        void("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(style)),
    )
    last = [element("script", Markup(script))] if script else []
    return f"<!DOCTYPE html>\n{element('html', head, element('body', *body, *last), lang='en')}\n"


@cache
def base_style() -> str:
    """The look that all pages share: colours for light and dark, text, facts, tables, figures."""
    return files(__package__).joinpath("base.css").read_text("utf-8")


def _policy(style: str, script: str) -> str:
    """A Content-Security-Policy: this style, this script, and nothing from anywhere else."""
    script_part = f"script-src {_hash(script)}; " if script else ""
    return f"default-src 'none'; style-src {_hash(style)}; {script_part}base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
