"""Blocks: a map of the pool, and who has which."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pagedkv.cli.output import printable
from pagedkv.cli.views.words import STATES, bar, count, duration, legend, percent

__all__ = ["inspect_view", "map_lines", "pool_lines"]

_STATE_OF = {
    ".": "free",
    "c": "cached_idle",
    "u": "in_use",
    "s": "shared",
    "d": "deferred",
    "p": "paging_in",
}
_SHADES = "·░▒▓█"
_ROWS = 12
_MOST_RUNS = 4
_LABEL = 10


def inspect_view(found: Mapping[str, Any], name: str, width: int, *, with_blocks: bool) -> RenderableType:
    """The pool, its live requests and, if asked for, each block and each block table."""
    parts: list[RenderableType] = [*pool_lines(found, name, width), Text()]
    if with_blocks:
        parts += [*map_lines(found["blocks"]["states"], width), Text()]
        parts.append(_sequence_table(found))
        parts += _shared_lines(found)
    else:
        parts.append(_request_table(found["requests"]))
    return Group(*parts)


def pool_lines(found: Mapping[str, Any], name: str, width: int) -> list[Text]:
    """Whose pool it is, how large, what for, and how much of it is wasted."""
    pool, cache = found["pool"], found["config"]["cache"]
    counts, waste = pool["num_by_state"], pool["fragmentation"]
    title = Text.assemble(
        (printable(name), "bold"),
        f"   {count(pool['num_blocks'])} blocks of {cache['block_size']} tokens",
        f"   {count(found['num_running'])} running, {count(found['num_waiting'])} waiting",
    )
    parts = [(counts[state], style) for state, (_, style) in STATES.items()]
    wasted = Text.assemble(
        ("wasted    ", "dim"),
        (percent(waste["internal_ratio"]), "bold"),
        f" of the slots in use hold no token, {percent(waste['excess_ratio'])} beyond what paging costs; ",
        f"free blocks lie in {count(waste['num_free_runs'])} runs",
    )
    return [
        title,
        Text(),
        Text.assemble(("blocks    ", "dim")).append_text(bar(parts, width - _LABEL)),
        Text(" " * _LABEL).append_text(legend(counts)),
        wasted,
    ]


def map_lines(states: str, width: int) -> list[Text]:
    """The pool by id, some blocks to a cell: how full it is by shade, what prevails by colour."""
    columns = max(1, width - _LABEL)
    per_cell = max(1, -(-len(states) // (columns * _ROWS)))
    cells = [_cell(states[at : at + per_cell]) for at in range(0, len(states), per_cell)]
    lines = []
    for start in range(0, len(cells), columns):
        line = Text.assemble((f"{start * per_cell:>8}  ", "dim"))
        for letter, style in cells[start : start + columns]:
            line.append(letter, style)
        lines.append(line)
    unit = "a block" if per_cell == 1 else f"{per_cell} blocks"
    return [Text.assemble(("by id     ", "dim"), f"a cell is {unit}; the fuller it is, the darker"), *lines]


def _cell(letters: str) -> tuple[str, str]:
    counts = Counter(letters)
    num_held = len(letters) - counts["."] - counts["c"]
    held = {letter: counts[letter] for letter in "usdp" if counts[letter]}
    letter = max(held or {"c": counts["c"], ".": counts["."]}, key=lambda each: counts[each])
    shade = _SHADES[-(-num_held * 4 // len(letters))] if num_held else "░" if letter == "c" else "·"
    return shade, STATES[_STATE_OF[letter]][1]


def _request_table(requests: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not requests:
        return Text("no live requests", "dim")
    table = _table(
        "request", "status", "age", "prompt", "cached", "generated", "of", "sequences", "blocks", "lost"
    )
    for each in requests:
        sequences = each["sequences"]
        table.add_row(
            printable(str(each["request_id"])),
            Text(each["status"], _status_style(each["status"])),
            duration(each["age_ms"] / 1e3),
            count(each["num_prompt_tokens"]),
            count(each["num_cached_tokens"]),
            count(max((one["num_output_tokens"] for one in sequences), default=0)),
            count(each["max_tokens"]),
            count(len(sequences)),
            count(sum(one["num_blocks"] for one in sequences)),
            f"{each['num_preemptions']}x" if each["num_preemptions"] else "",
        )
    return table


def _sequence_table(found: Mapping[str, Any]) -> RenderableType:
    owners = {
        sequence["seq_id"]: request["request_id"]
        for request in found["requests"]
        for sequence in request["sequences"]
    }
    if not found["tables"]:
        return Text("no sequence has blocks", "dim")
    states, table = found["blocks"]["states"], _table("sequence", "request", "tokens", "blocks", "shared")
    table.add_column("which", overflow="fold")
    for each in found["tables"]:
        table.add_row(
            str(each["seq_id"]),
            printable(str(owners.get(each["seq_id"], "-"))),
            count(each["num_tokens"]),
            count(len(each["blocks"])),
            count(sum(states[block] == "s" for block in each["blocks"])),
            _runs_text(each["blocks"]),
        )
    return table


def _shared_lines(found: Mapping[str, Any]) -> list[Text]:
    most = found["blocks"]["most_shared"]
    if not most:
        return []
    shown = ", ".join(f"{each['block']} ({each['ref_count']}x)" for each in most)
    return [Text(), Text.assemble(("most shared blocks: ", "dim"), shown)]


def _runs_text(blocks: Sequence[int]) -> Text:
    """Block ids as runs of consecutive ones, the first few of them."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and runs[-1][1] + 1 == block:
            runs[-1][1] = block
        else:
            runs.append([block, block])
    text = Text(", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:_MOST_RUNS]))
    if len(runs) > _MOST_RUNS:
        text.append(f", … {len(runs)} runs", "dim")
    return text


def _status_style(status: str) -> str:
    return {"waiting": "yellow", "prefilling": "magenta", "decoding": "cyan"}.get(status, "")


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, name in enumerate(names):
        is_text = number == 0 or name in ("status", "request")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    return table
