"""Whatever a run says stays text, wherever it is shown."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_pagedkv.report import plain
from pytest_pagedkv.report.annotations import annotations
from pytest_pagedkv.report.escaping import code, code_cell
from pytest_pagedkv.report.markdown import comment, summary
from pytest_pagedkv.report.page import render_page
from tests.report.runs import benchmark, duet, failed, run_file

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
OUR_HTML = re.compile(r"(<!-- pagedkv-perf -->|<br>|</?details>|<summary>[A-Za-z0-9 :]+</summary>|\n)*")
OUR_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "a",
        "main",
        "header",
        "h1",
        "h2",
        "h3",
        "dl",
        "dt",
        "dd",
    ),
    *(
        "ul",
        "li",
        "b",
        "p",
        "form",
        "label",
        "input",
        "select",
        "option",
        "output",
        "div",
        "table",
        "caption",
    ),
    *("thead", "tbody", "tr", "th", "td", "span", "wbr", "details", "summary", "figure", "figcaption", "svg"),
    *("marker", "circle", "rect", "path", "text", "script"),
}
PIECES = [
    *(
        "`",
        "``",
        "```",
        "|",
        "\\",
        "\\|",
        "\n",
        "\r",
        "::",
        "%0A",
        "&lt;",
        "&#64;",
        "'",
        '"',
        "|---|",
        "- [ ] ",
    ),
    *("<script>alert(1)</script>", "<img src=x onerror=y>", "<!--", "-->", "</details>", "</style>", "]]>"),
    *("@octocat", "#12", "https://evil.example", "www.evil.example", "a@b.com", "[a](http://b)", "![a](b)"),
    *("*", "_", "~~", "# ", "> ", "\0", "\x1b[31m", "\u202e", "\u200b", "\ud800", " ", "x"),
]
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), min_size=1, max_size=8).map("".join)


def hostile_run(text: str) -> dict[str, object]:
    """A run that says this everywhere."""
    judged = duet(0.1, num_confirm=1) | {
        "detail": text,
        "verdict": text,
        "metric": text,
        "meters": {text: [1, 2]},
    }
    return run_file(
        failed(
            text,
            details=[text],
            counters={text: 1},
            baseline={text: 2},
            group=text,
            duet=judged,
            verdict=text,
        ),
        benchmark(text + "2", file=text, outcomes={text: text}, metric=text, duet=judged | {"effect": None}),
        notes=[text],
        errors=[text],
        stale=[text],
        command=[text],
        hash_seeds=[text],
        platform=text,
        environment={"slug": text, "fields": {text: text}},
        against={"base": text, "head": text},
    )


class Page(HTMLParser):
    """The tags of a document, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(HOSTILE)
def test_markdown_shows_what_a_run_says_as_code(text: str) -> None:
    """No HTML but ours, no link, no image; and the text itself is there, in code spans, in every place."""
    tokens = MARKDOWN.parse(comment(hostile_run(text)))
    parts = [part for token in tokens for part in (token, *(token.children or ()))]

    html = [part.content for part in parts if part.type in ("html_block", "html_inline")]
    assert all(OUR_HTML.fullmatch(content) for content in html)
    assert not {part.type for part in parts} & {
        "link_open",
        "image",
        "fence",
        "code_block",
        "blockquote_open",
    }
    shown = plain.text(text)
    if shown.strip():
        codes = [part.content for part in parts if part.type == "code_inline"]
        assert codes.count(shown) >= 5


@given(HOSTILE)
def test_the_page_shows_what_a_run_says_as_text(text: str) -> None:
    """No tag but ours, no handler of events, no address that leads elsewhere."""
    page = Page(render_page(hostile_run(text)))

    assert {tag for tag, _ in page.tags} <= OUR_TAGS
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on") or name in ("style", "src")}
    assert all((attributes.get("href") or "#").startswith("#") for _, attributes in page.tags)
    assert plain.text(text) in "".join(page.texts)


@given(HOSTILE)
def test_an_annotation_is_one_command(text: str) -> None:
    """A line each, with our title; nothing that a run says ends the properties or begins another command."""
    lines = annotations(hostile_run(text))

    assert lines
    for line in lines:
        assert len(line.splitlines()) == 1
        assert re.match(
            r"::(error|warning|notice) (file=[^,:]+,)?(line=\d+,)?title=pagedkv perf[^,:]*::", line
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a|b", "`a|b`"),
        (" a", "`  a `"),
        ("", ""),
        ("  ", ""),
        ("x" * 400, f"`{'x' * 297}...`"),
    ],
)
def test_a_code_span_ends_where_its_text_ends(text: str, expected: str) -> None:
    """The fence is longer than what is inside, edges are kept, length is bounded; cells keep their pipes."""
    assert code(text) == expected
    assert code_cell(text) == expected.replace("|", "\\|")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\r\n b", "a b"),
        ("a\0b", "a\\x00b"),
        ("\u202eb", "\\u202eb"),
        ("\ud800", "\\ud800"),
        (7, ""),
        (None, ""),
        ("x" * 700, "x" * 597 + "..."),
    ],
)
def test_text_is_one_printable_line(value: object, expected: str) -> None:
    """Control characters, halves of characters and changes of direction are spelled out."""
    assert plain.text(value) == expected


def test_the_summary_has_what_the_comment_has() -> None:
    """They differ in the marker and in the limit only."""
    run = run_file(failed())

    assert comment(run) == "<!-- pagedkv-perf -->\n" + summary(run)
