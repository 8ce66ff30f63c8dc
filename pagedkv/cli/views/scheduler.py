"""The scheduler: its limits, who waits and why, the last steps."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pagedkv.cli.output import printable
from pagedkv.cli.views.words import count, duration, spark

__all__ = ["scheduler_view"]

_MOST_QUEUED = 20
_MOST_STEPS = 12
_SPARK_WIDTH = 64


def scheduler_view(found: Mapping[str, Any], name: str) -> RenderableType:
    """Limits, queue, steps."""
    chosen = found["scheduler"]
    return Group(
        Text.assemble(
            (printable(name), "bold"),
            f"   policy {chosen['policy']}   {count(found['num_running'])} running, ",
            f"{count(found['num_waiting'])} waiting",
        ),
        Text(),
        *_limit_lines(chosen),
        Text(),
        *_queue(chosen),
        Text(),
        *_steps(chosen["steps"]),
    )


def _limit_lines(chosen: Mapping[str, Any]) -> list[Text]:
    limits = chosen["limits"]
    average, opens = limits["batch_average"], limits["opens_in_ms"]
    follows = "" if average is None else f", follows the moving average {average:.1f}"
    kept, promised = count(limits["num_watermark_blocks"]), count(limits["num_promised_blocks"])
    lines = [
        (
            "sequences",
            f"{count(limits['num_sequences'])} may run now, {count(limits['max_running'])} at most{follows}",
        ),
        ("tokens", f"{count(limits['max_batch_tokens'])} in a step at most"),
        ("blocks", f"{kept} kept free, {promised} promised to prompts that are being computed"),
        ("batch", f"{chosen['mean_recent_batch']:.1f} sequences in the last steps"),
    ]
    if opens is not None:
        lines.append(("merging", f"new requests are let in in {duration(opens / 1e3)}"))
    return [Text.assemble((f"{label:<11}", "dim"), text) for label, text in lines]


def _queue(chosen: Mapping[str, Any]) -> list[RenderableType]:
    queue = chosen["queue"]
    if not queue:
        return [Text("nobody waits", "dim")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for label in ("#", "request", "waiting", "prompt", "overtaken", "lost blocks"):
        table.add_column(label, justify="left" if label == "request" else "right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for place, each in enumerate(queue[:_MOST_QUEUED], 1):
        table.add_row(
            str(place),
            Text(printable(str(each["request_id"])), "bold" if each["is_promoted"] else ""),
            duration(each["waiting_ms"] / 1e3),
            count(each["num_prompt_tokens"]),
            f"{each['num_overtakes']}x" if each["num_overtakes"] else "",
            f"{each['num_preemptions']}x" if each["num_preemptions"] else "",
            Text(printable(each["why_held"])),
        )
    rest = len(queue) + chosen["num_not_listed"] - _MOST_QUEUED
    return [table, *([_rest(chosen, rest)] if rest > 0 else [])]


def _rest(chosen: Mapping[str, Any], rest: int) -> Text:
    """Those that are not shown, by their reasons."""
    reasons = Counter(each["why_held"] for each in chosen["queue"][_MOST_QUEUED:])
    text = Text.assemble((f"… and {rest:,} more", "dim"))
    for reason, number in reasons.most_common(3):
        text.append(f"; {number:,}: {printable(reason)}", "dim")
    return text


def _steps(steps: list[dict[str, Any]]) -> list[RenderableType]:
    if not steps:
        return [Text("no step was committed yet", "dim")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for label in (
        "took",
        "batch",
        "decodes",
        "prompt tokens",
        "sampled",
        "copies",
        "preempted",
        "running",
        "waiting",
    ):
        table.add_column(label, justify="right", no_wrap=True)
    for each in steps[: -_MOST_STEPS - 1 : -1]:
        names = (
            "batch_size",
            "num_decodes",
            "num_prefill_tokens",
            "num_sampled",
            "num_copies",
            "num_preempted",
        )
        numbers = [count(each[name]) for name in (*names, "num_running", "num_waiting")]
        table.add_row(duration(each["duration_ms"] / 1e3), *numbers)
    sizes, times = ([each[name] for each in steps] for name in ("batch_size", "duration_ms"))
    return [
        Text.assemble(
            ("batch      ", "dim"), (spark(sizes, _SPARK_WIDTH), "cyan"), f"  to {count(max(sizes))}"
        ),
        Text.assemble(
            ("took       ", "dim"),
            (spark(times, _SPARK_WIDTH), "yellow"),
            f"  to {duration(max(times) / 1e3)}",
        ),
        Text(),
        Text(f"the last {min(len(steps), _MOST_STEPS)} steps, the newest first", "dim"),
        table,
    ]
