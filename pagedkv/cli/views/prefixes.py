"""The prefix cache: how large it is, how often it hits, what is shared, what goes next."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pagedkv.cli.output import printable
from pagedkv.cli.views.words import bar, count, percent, spark

__all__ = ["prefix_view"]

_SPARK_WIDTH = 60
_LABEL = 11


def prefix_view(found: Mapping[str, Any], name: str, width: int) -> RenderableType:
    """All of it, or that there is none."""
    cache = found["prefix_cache"]
    title = Text(printable(name), "bold")
    if cache is None:
        return Group(title, Text(), Text("prefix caching is off", "yellow"))
    return Group(
        title,
        Text(),
        *_size_lines(cache, found["pool"]["num_blocks"], width),
        *_rate_lines(found["stats"]["counters"], found["stats"]["num_hit_tokens"]),
        *_history_lines(found["history"]),
        *_idle_lines(cache["idle"]),
        Text(),
        *_shared(cache["shared_prefixes"]),
    )


def _line(label: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", "dim"), *parts)


def _size_lines(cache: Mapping[str, Any], num_blocks: int, width: int) -> list[Text]:
    num_idle, num_used = cache["num_idle"], cache["num_blocks"] - cache["num_idle"]
    parts = [(num_used, "cyan"), (num_idle, "yellow"), (num_blocks - cache["num_blocks"], "bright_black")]
    lines = [
        _line("blocks").append_text(bar(parts, width - _LABEL)),
        _line(
            "", ("■ ", "cyan"), f"cached, in use {count(num_used)}   ", ("■ ", "yellow"),
            f"cached, idle {count(num_idle)}   ", ("■ ", "bright_black"),
            f"not cached {count(num_blocks - cache['num_blocks'])}",
        ),
    ]  # fmt: skip
    if cache["num_pages"]:
        lines.append(_line("pages", f"{count(cache['num_pages'])} more below the device"))
    if cache["prefix_keys"] == "ids":
        return [*lines, _line("tree", "prefixes are known by ids: what builds on what is not")]
    nodes, spaces = count(cache["num_nodes"]), count(cache["num_namespaces"])
    depth = count(cache["max_depth"])
    return [
        *lines,
        _line("tree", f"{nodes} runs in {spaces} namespaces; the longest prefix has {depth} blocks"),
    ]


def _rate_lines(counters: Mapping[str, int], num_hit_tokens: int) -> list[Text]:
    looked, hit = counters.get("lookup_blocks", 0), counters.get("hit_blocks", 0)
    return [
        _line(
            "hits", (percent(hit / looked if looked else None), "bold"),
            f" of {count(looked)} blocks looked up by {count(counters.get('prefix_lookups', 0))} prompts; ",
            f"{count(num_hit_tokens)} tokens spared",
        ),
        _line("evicted", f"{count(counters.get('evictions', 0))} blocks"),
    ]  # fmt: skip


def _history_lines(marks: Sequence[Mapping[str, int]]) -> list[Text]:
    """Hit rate and evictions from mark to mark."""
    pairs = list(pairwise(marks))
    if not pairs:
        return []
    hits, looks, gone = (
        [float(b[name] - a[name]) for a, b in pairs]
        for name in ("num_hit_blocks", "num_lookup_blocks", "num_evictions")
    )
    rates = [hit / looked if looked else 0.0 for hit, looked in zip(hits, looks, strict=True)]
    span = (marks[-1]["time_ns"] - marks[max(0, len(marks) - 1 - _SPARK_WIDTH)]["time_ns"]) / 1e9
    return [
        _line(
            "hit rate", (spark(rates, _SPARK_WIDTH), "cyan"), f"  now {percent(rates[-1])}, over {span:.0f} s"
        ),
        _line("evictions", (spark(gone, _SPARK_WIDTH), "yellow"), f"  now {count(gone[-1])}"),
    ]


def _idle_lines(idle: Mapping[str, Any]) -> list[Text]:
    first = ", ".join(map(str, idle["next_evicted"]))
    last = ", ".join(map(str, idle["last_evicted"]))
    if not first:
        return [_line("goes next", "nothing: no cached block is idle")]
    return [
        _line("goes next", f"after {count(idle['num_free_before'])} free blocks: {first}, …"),
        _line("goes last", last),
    ]


def _shared(prefixes: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not prefixes:
        return [Text("no prefix is shared by live sequences", "dim")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for label in ("sequences", "blocks", "ends at block", "blocks saved", "namespace"):
        table.add_column(label, justify="left" if label == "namespace" else "right", no_wrap=True)
    for each in prefixes:
        names = ("num_sequences", "num_blocks", "depth", "num_blocks_saved")
        table.add_row(*(count(each[name]) for name in names), printable(each["namespace"] or "-"))
    return [Text("prefixes that live sequences share, those that save most first", "dim"), table]
