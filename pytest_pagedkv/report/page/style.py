"""The page's style and its script, which become part of it, and the policy that lets nothing else in."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

__all__ = ["policy", "script", "style"]


def style() -> str:
    """The content of the page's `<style>`."""
    return _part("page.css")


def script() -> str:
    """The content of the page's `<script>`; the page can be read without it."""
    return _part("page.js")


def policy() -> str:
    """A Content-Security-Policy: this style, this script, and nothing from anywhere else."""
    return (
        f"default-src 'none'; style-src {_hash(style())}; script-src {_hash(script())}; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
