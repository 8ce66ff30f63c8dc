"""`pagedkv top`: what an engine is doing now, on one screen."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from pagedkv.cli.output import printable
from pagedkv.cli.views.rates import Rates
from pagedkv.cli.views.words import (
    STATES,
    bar,
    bytes_text,
    count,
    duration,
    legend,
    percent,
    spark,
)

__all__ = ["SECTIONS", "top_lines"]

SECTIONS = ("config", "usage", "offload", "stats", "device_memory")
"""What is asked of an engine each time."""

_LABEL = 14
_VALUE = 12
_ROUTES = (("page_out", "to host"), ("page_in", "from host"), ("spill", "to file"), ("fetch", "from file"))
_FULL_RATIO = 0.9


def top_lines(found: Mapping[str, Any], rates: Rates, name: str, width: int, trouble: str = "") -> list[Text]:
    """The screen, line by line.

    Args:
        found: the last snapshot.
        rates: how counts move.
        name: whose it is.
        width: of the terminal.
        trouble: why there is no newer snapshot; empty if there is nothing to say.
    """
    lines = [
        _head(found, name, width, trouble),
        Text(),
        *_blocks(found, width),
        Text(),
        *_work(found, rates, width),
        Text(),
        *_latencies(found["stats"]),
        *_offload(found, rates),
        *_device(found["device_memory"], width),
    ]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _label(text: str) -> Text:
    return Text.assemble((f"{text:<{_LABEL}}", "dim"))


def _head(found: Mapping[str, Any], name: str, width: int, trouble: str) -> Text:
    left = Text.assemble(("pagedkv top", "bold"), "   ", (printable(trouble), "bold red"))
    left.append("   " if trouble else "").append(printable(name))
    right = time.strftime("%H:%M:%S")
    if trouble:
        return left
    step = found["step_in_flight"]
    left.append("   idle" if step is None and not found["num_running"] else "", "yellow")
    return left.append(" " * max(2, width - len(left) - len(right))).append(right, "dim")


def _blocks(found: Mapping[str, Any], width: int) -> list[Text]:
    usage, cache = found["usage"], found["config"]["cache"]
    counts = usage["num_by_state"]
    parts = [(counts[state], style) for state, (_, style) in STATES.items()]
    num_blocks = sum(counts.values())
    return [
        _label("blocks").append_text(bar(parts, width - _LABEL)),
        _label("").append_text(legend(counts)),
        _label("").append(
            f"{num_blocks:,} blocks of {cache['block_size']} tokens; "
            f"{percent(usage['internal_ratio'])} of the slots in use hold no token",
            "dim",
        ),
    ]


def _work(found: Mapping[str, Any], rates: Rates, width: int) -> list[Text]:
    """Rates with what they were, a line each."""
    stats, now = found["stats"], rates.now
    limit = found["config"]["scheduler"]["max_running"]
    room = max(8, min(60, width - _LABEL - _VALUE - 18))

    def line(label: str, value: str, unit: str, series: Sequence[float], style: str) -> Text:
        text = _label(label).append(f"{value:>{_VALUE}}", "bold").append(f" {unit:<15} ", "dim")
        return text.append(spark(series, room), style)

    finished = f"{count(stats['num_finished'])} ended"
    waiting = Text.assemble(
        (f"{count(found['num_waiting'])} waiting", "yellow" if found["num_waiting"] else "")
    )
    return [
        _label("requests")
        .append(f"{count(found['num_running']):>{_VALUE}}", "bold")
        .append(" running         ", "dim")
        .append_text(waiting)
        .append(f"   {finished}   {count(stats['num_aborted'])} aborted", "dim"),
        line("batch", count(rates.batch, 1), f"of {count(limit)}", [], ""),
        line(
            "decode",
            count(now.get("num_generated_tokens")),
            "tokens/s",
            rates.series("num_generated_tokens"),
            "cyan",
        ),
        line(
            "prefill",
            count(now.get("num_prefill_tokens")),
            "tokens/s",
            rates.series("num_prefill_tokens"),
            "cyan",
        ),
        line("prefix hits", percent(rates.hit_ratio), "of new prompts", rates.series("hit_ratio"), "magenta"),
        line(
            "evictions", count(now.get("num_evictions")), "blocks/s", rates.series("num_evictions"), "yellow"
        ),
        line(
            "preemptions",
            count(now.get("num_preemptions"), 1),
            "requests/s",
            rates.series("num_preemptions"),
            "red",
        ),
    ]


def _latencies(stats: Mapping[str, Any]) -> list[Text]:
    lines = [_label("").append(f"{'half below':>{_VALUE}}{'99 in 100 below':>20}", "dim")]
    for label, name in (("first token", "ttft"), ("next token", "inter_token"), ("step", "step")):
        middle, high = duration(stats[f"{name}_p50_s"]), duration(stats[f"{name}_p99_s"])
        lines.append(_label(label).append(f"{middle:>{_VALUE}}{high:>20}", "bold"))
    return lines


def _offload(found: Mapping[str, Any], rates: Rates) -> list[Text]:
    pages = found["offload"]
    if pages is None:
        return []
    text = _label("offload")
    for route, label in _ROUTES:
        text.append(f"{label} ", "dim").append(f"{bytes_text(rates.now.get(f'{route}_bytes'))}/s   ", "bold")
    stalls, errors = found["stats"]["offload"]["num_stalls"], found["stats"]["offload"]["num_errors"].values()
    where = (
        f"{count(pages['num_host_pages'])} pages on the host, {count(pages['num_file_pages'])} in the file"
    )
    trouble = Text(f"   {stalls:,} stalls, {sum(errors):,} errors", "red" if stalls or sum(errors) else "dim")
    return [Text(), text, _label("").append(where, "dim").append_text(trouble)]


def _device(devices: Sequence[Mapping[str, Any]] | None, width: int) -> list[Text]:
    lines: list[Text] = []
    for each in devices or ():
        total, used = each["total_bytes"], each["total_bytes"] - each["free_bytes"]
        style = "red" if used > _FULL_RATIO * total else "green"
        parts = [(each["allocated_bytes"], style), (max(0, used - each["allocated_bytes"]), "yellow"),
                 (each["free_bytes"], STATES["free"][1])]  # fmt: skip
        tensors = bytes_text(each["allocated_bytes"])
        told = f"{tensors} in tensors, {bytes_text(used)} of {bytes_text(total)} taken"
        lines += [Text(), _label(f"GPU {each['device']}").append_text(bar(parts, width - _LABEL))]
        lines.append(_label("").append(f"{printable(each['name'])}   ", "dim").append(told))
    return lines
