"""What an engine measures, for Prometheus: the text format, version 0.0.4."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["CONTENT_TYPE", "FAMILIES", "METRIC_SECTIONS", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METRIC_SECTIONS = ("usage", "offload", "stats", "device_memory")
"""Sections of a snapshot that metrics are made of."""

_Sample = tuple[str, Mapping[str, str], float | None]
"""What is behind the name of the family, labels, value."""

FAMILIES: Mapping[str, tuple[str, str]] = {
    "requests_total": ("counter", "Requests that were added."),
    "requests_finished_total": ("counter", "Requests that ended by themselves."),
    "requests_aborted_total": ("counter", "Requests that were aborted."),
    "requests_running": ("gauge", "Requests that have blocks."),
    "requests_waiting": ("gauge", "Requests that wait for blocks."),
    "preemptions_total": ("counter", "How often a request lost its blocks."),
    "lost_tokens_total": ("counter", "Computed tokens that were lost by preemptions."),
    "steps_total": ("counter", "Steps that were committed."),
    "steps_failed_total": ("counter", "Steps whose executor raised."),
    "step_seconds": ("summary", "How long steps took."),
    "batch_size_sum_total": ("counter", "Sequences that took part in steps, added up over the steps."),
    "prefill_tokens_total": ("counter", "Tokens of prompts that were computed."),
    "generated_tokens_total": ("counter", "Tokens that were sampled."),
    "time_to_first_token_seconds": ("summary", "From the arrival of requests to their first tokens."),
    "inter_token_seconds": ("summary", "From tokens of a sequence to the next ones."),
    "prefix_lookup_blocks_total": ("counter", "Blocks of prompts that were looked up in the prefix cache."),
    "prefix_hit_blocks_total": ("counter", "Blocks of prompts that were found in it."),
    "prefix_hit_tokens_total": ("counter", "Tokens that the prefix cache spared."),
    "evictions_total": ("counter", "Cached blocks that were handed out for something else."),
    "copied_blocks_total": ("counter", "Blocks that were copied on write or by eager forks."),
    "blocks": ("gauge", "Blocks of the pool by state."),
    "blocks_cached": ("gauge", "Blocks in the prefix cache, in use or idle."),
    "blocks_in_use_max": ("gauge", "Most blocks that were in use at once."),
    "fragmentation_ratio": ("gauge", "Share of the slots of blocks in use that hold no token."),
    "offload_bytes_total": ("counter", "Bytes that were moved between the tiers, by route."),
    "offload_errors_total": ("counter", "Copies between the tiers that failed, by route."),
    "offload_stalls_total": ("counter", "Page-ins that took much longer than they should."),
    "offload_pages": ("gauge", "Pages below the device, by where they are."),
    "device_memory_bytes": ("gauge", "Memory of GPUs, by kind."),
}
"""Names without `pagedkv_`: type and help. docs/live.md lists them."""

_OF_STATS = {
    "requests_total": "num_requests",
    "requests_finished_total": "num_finished",
    "requests_aborted_total": "num_aborted",
    "preemptions_total": "num_preemptions",
    "lost_tokens_total": "num_lost_tokens",
    "steps_total": "num_steps",
    "steps_failed_total": "num_failed_steps",
    "prefill_tokens_total": "num_prefill_tokens",
    "generated_tokens_total": "num_generated_tokens",
    "prefix_hit_tokens_total": "num_hit_tokens",
    "blocks_cached": "num_cached_blocks",
    "blocks_in_use_max": "max_blocks_in_use",
}
_OF_COUNTERS = {
    "prefix_lookup_blocks_total": ("lookup_blocks",),
    "prefix_hit_blocks_total": ("hit_blocks",),
    "evictions_total": ("evictions",),
    "copied_blocks_total": ("cow_copies", "fork_copies"),
    "batch_size_sum_total": (),
}
_SUMMARIES = {
    "step_seconds": ("step", "busy_s", "num_steps"),
    "time_to_first_token_seconds": ("ttft", "ttft_sum_s", "num_first_tokens"),
    "inter_token_seconds": ("inter_token", "inter_token_sum_s", "num_inter_tokens"),
}
_QUANTILES = {"0.5": "p50_s", "0.99": "p99_s"}
_MEMORY = ("allocated_bytes", "reserved_bytes", "free_bytes", "total_bytes")


def metrics_text(found: Mapping[str, Any]) -> str:
    """A snapshot with `METRIC_SECTIONS` as metrics; a family that has no samples is left out."""
    samples = {**_plain(found), **_summaries(found["stats"]), **_blocks(found["usage"])}
    samples |= _offload(found) | _devices(found["device_memory"] or ())
    return "".join(_family(name, samples[name]) for name in FAMILIES if samples.get(name))


def _plain(found: Mapping[str, Any]) -> dict[str, list[_Sample]]:
    stats, counters = found["stats"], found["stats"]["counters"]
    values = {name: stats[field] for name, field in _OF_STATS.items()}
    values |= {name: sum(counters.get(each, 0) for each in some) for name, some in _OF_COUNTERS.items()}
    values["batch_size_sum_total"] = round(stats["mean_batch_size"] * stats["num_steps"])
    values |= {"requests_running": found["num_running"], "requests_waiting": found["num_waiting"]}
    values["fragmentation_ratio"] = found["usage"]["internal_ratio"]
    return {name: [("", {}, value)] for name, value in values.items()}


def _summaries(stats: Mapping[str, Any]) -> dict[str, list[_Sample]]:
    found = {}
    for name, (prefix, total, number) in _SUMMARIES.items():
        samples: list[_Sample] = [
            ("", {"quantile": quantile}, stats[f"{prefix}_{field}"]) for quantile, field in _QUANTILES.items()
        ]
        found[name] = [*samples, ("_sum", {}, stats[total]), ("_count", {}, stats[number])]
    return found


def _blocks(usage: Mapping[str, Any]) -> dict[str, list[_Sample]]:
    return {"blocks": [("", {"state": state}, number) for state, number in usage["num_by_state"].items()]}


def _offload(found: Mapping[str, Any]) -> dict[str, list[_Sample]]:
    moved, pages = found["stats"]["offload"], found["offload"]
    if moved is None or pages is None:
        return {}
    return {
        "offload_bytes_total": [("", {"route": route}, size) for route, size in moved["num_bytes"].items()],
        "offload_errors_total": [("", {"route": route}, size) for route, size in moved["num_errors"].items()],
        "offload_stalls_total": [("", {}, moved["num_stalls"])],
        "offload_pages": [("", {"tier": tier}, pages[f"num_{tier}_pages"]) for tier in ("host", "file")],
    }


def _devices(devices: Iterable[Mapping[str, Any]]) -> dict[str, list[_Sample]]:
    return {
        "device_memory_bytes": [
            ("", {"device": str(each["device"]), "kind": kind.removesuffix("_bytes")}, each[kind])
            for each in devices
            for kind in _MEMORY
        ]
    }


def _family(name: str, samples: Iterable[_Sample]) -> str:
    kind, about = FAMILIES[name]
    return "".join(
        (
            f"# HELP pagedkv_{name} {about}\n# TYPE pagedkv_{name} {kind}\n",
            *_lines(name, samples),
        )
    )


def _lines(name: str, samples: Iterable[_Sample]) -> Iterator[str]:
    for suffix, labels, value in samples:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"pagedkv_{name}{suffix}{f'{{{inner}}}' if inner else ''} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float | None) -> str:
    return "NaN" if value is None else repr(value)
