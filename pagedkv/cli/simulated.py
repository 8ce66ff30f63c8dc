"""`pagedkv replay --mode simulated`: its options, and how its result is shown."""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pagedkv.cli import offload_options
from pagedkv.cli.arguments import natural, positive
from pagedkv.cli.observing import findings_of, sink_for
from pagedkv.cli.offload_options import OFFLOAD, offload_config
from pagedkv.errors import ConfigError

if TYPE_CHECKING:
    from pagedkv.cli.observing import Sink
    from pagedkv.offload.stats import OffloadStats
    from pagedkv.pitfalls import Finding
    from pagedkv.replay import Progress
    from pagedkv.scheduler import Scheduler
    from pagedkv.simulate import SimulationResult
    from pagedkv.traces import Trace

__all__ = ["SIMULATED", "add_options", "json_text", "read", "refuse_options", "rows", "run"]

SIMULATED = ("simulated", "simulate")
"""Both spellings of the mode."""

_DEVICE = "h200"
_MODEL = "llama-3-8b"
_NS_PER_MS = 10**6
_PER_MILLION = 10**6

_SCHEDULER = (
    "max_batch_tokens",
    "max_running",
    "max_chunk_tokens",
    "policy",
    "watermark_ratio",
    "max_wait_ms",
    "batch_merge_window_ms",
    "batch_period_ms",
    "length_buckets",
    "adaptive_batch_size",
)
_TIERS = (
    "pinned_bytes",
    "nvme_bytes",
    "prefetch_blocks",
    "policy",
    "queue_depth",
    "io_threads",
    "io_streams",
    "deferred_events",
)
_OTHERS = (
    "device_profile",
    "model_shape",
    "num_devices",
    "id_block_size",
    "no_prefix_caching",
    "fork_mode",
    "time_scale",
    "open_loop",
    "max_requests",
    "sample_interval_ms",
    "seed",
    "record",
    "no_warm_up",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only this mode has; those that were not given are None."""
    group = parser.add_argument_group("simulated mode", "see docs/simulation.md")
    add = group.add_argument
    add("--device-profile", metavar="NAME", help=f"a100, h100, h200, l4 or cpu (default: {_DEVICE})")
    add("--model-shape", metavar="NAME", help=f"such as llama-3.2-1b or llama-3-70b (default: {_MODEL})")
    add("--num-devices", type=positive, metavar="N", help="devices that share every layer (default: 1)")
    add("--id-block-size", type=positive, metavar="B", help="tokens that an id of the trace stands for")
    add("--no-prefix-caching", action="store_true", default=None, help="reuse nothing between requests")
    add(
        "--fork-mode",
        choices=["lazy", "eager", "full_blocks"],
        help="when samples and beams copy, or that they share full blocks only (default: lazy)",
    )
    add("--time-scale", type=_above_0, metavar="X", help="multiply all times of the trace; 2 halves the load")
    add(
        "--open-loop", action="store_true", default=None, help="turns come at their times, not after thinking"
    )
    add("--max-requests", type=positive, metavar="N", help="only the first N requests")
    add("--sample-interval-ms", type=positive, metavar="MS", help="between entries of the series in --json")
    add("--seed", type=natural, metavar="N", help="of what beams choose from (default: 0)")
    add("--record", metavar="RUN.json", help="remember the run there, for `pagedkv report RUN.json`")
    add("--no-warm-up", action="store_true", default=None, help="compile kernels in the steps that need them")
    group = parser.add_argument_group("scheduler of the simulated mode", "defaults: those of SchedulerConfig")
    add = group.add_argument
    add("--max-batch-tokens", type=positive, metavar="N", help="tokens that a step computes")
    add("--max-running", type=positive, metavar="N", help="sequences that run at once")
    add("--max-chunk-tokens", type=positive, metavar="N", help="prompt tokens of one request in a step")
    add("--policy", choices=["fcfs", "lifo", "priority"], help="who goes first, and is preempted last")
    add("--watermark", dest="watermark_ratio", type=_from_0, metavar="R", help="share of blocks kept free")
    add("--max-wait-ms", type=_from_0, metavar="MS", help="who has waited longer goes first")
    add("--merge-window-ms", dest="batch_merge_window_ms", type=_from_0, metavar="MS",
        help="an arrival waits so long for others")  # fmt: skip
    add("--batch-period-ms", type=_from_0, metavar="MS", help="steps begin at multiples of this time")
    add(
        "--length-buckets",
        type=_ascending,
        metavar="N,N",
        help="bounds of prompt lengths that begin together",
    )
    add("--adaptive-batch-size", action="store_true", default=None, help="fewer at once after preemptions")
    offload_options.add_options(parser)


def refuse_options(arguments: argparse.Namespace) -> None:
    """Refuse options of this mode in another one.

    Raises:
        ConfigError: one was given.
    """
    for name in (*_OTHERS, *_SCHEDULER, *OFFLOAD):
        if getattr(arguments, name) is not None:
            option = OFFLOAD.get(name) or f"--{_OPTIONS.get(name, name).replace('_', '-')}"
            raise ConfigError(f"{option} belongs to --mode simulated; the mode is {arguments.mode}")


_OPTIONS = {"watermark_ratio": "watermark", "batch_merge_window_ms": "merge_window_ms"}


def read(arguments: argparse.Namespace) -> "Trace":
    """The trace, with ids of its own block size, which the cache's has to divide."""
    from pagedkv.traces import read_trace

    size_of_model = arguments.block_size if arguments.prefix_model else None
    trace = read_trace(
        arguments.trace,
        block_size=arguments.id_block_size or size_of_model,
        block_ids=not arguments.no_prefix_caching,
        prefix_model=arguments.prefix_model,
        tokenizer=arguments.tokenizer,
        num_output_tokens=arguments.output_tokens,
    )
    return replace(trace, requests=trace.requests[: arguments.max_requests])


def run(
    arguments: argparse.Namespace, trace: "Trace", progress: "Progress | None"
) -> "tuple[SimulationResult, dict[str, object], list[Finding]]":
    """Simulate; returns the result, what was simulated, and the pitfalls that it fell into.

    Raises:
        ConfigError: settings that cannot work.
    """
    from pagedkv.config import SchedulerConfig
    from pagedkv.simulate import simulate

    served = _served(arguments)
    cache = _cache(arguments, trace, served)
    scheduler = SchedulerConfig(**_given(arguments, _SCHEDULER))
    how: dict[str, Any] = {
        "time_scale": arguments.time_scale or 1.0,
        "closed_loop": not arguments.open_loop,
        "sample_interval_ms": arguments.sample_interval_ms or 1000,
        "seed": arguments.seed or 0,
        "warm_up": not arguments.no_warm_up,
    }
    offload = offload_config(arguments)
    sinks: list[Sink] = []

    def observe(observed: "Scheduler") -> None:
        sinks.append(sink_for(observed, is_recorded=arguments.record is not None))
        observed.events.attach(sinks[0])

    result = simulate(
        trace,
        cache=cache,
        scheduler=scheduler,
        offload=offload,
        progress=progress,
        observe=observe,
        **served,
        **how,
    )
    about: dict[str, object] = {
        "mode": SIMULATED[0],
        "trace": trace.name,
        "format": trace.format,
        "block_size": cache.block_size,
        "num_blocks": cache.num_blocks,
        "prefix_caching": cache.prefix_caching,
        "fork_mode": cache.fork_mode,
    }
    about |= {"device_profile": served["device"], "model_shape": served["model"]}
    about |= {"num_devices": served["num_devices"]} | how
    about |= {name: getattr(scheduler, name) for name in _SCHEDULER}
    if offload is not None:
        about["tiers"] = {name: getattr(offload, name) for name in _TIERS}
    if trace.num_failed:
        about["failed_requests"] = trace.num_failed
    return result, about, findings_of(sinks[0], arguments.record, about)


def json_text(result: "SimulationResult", about: Mapping[str, object], findings: "Sequence[Finding]") -> str:
    """One JSON object: numbers and settings a line each, then series and timelines a column each."""
    plain = {**result.as_dict(), **about, "findings": [each.as_dict() for each in findings]}
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items()]
    for name, columns in (("series", result.over_time()), ("timelines", result.timeline_columns())):
        inner = ",\n".join(
            f"    {json.dumps(column)}: {json.dumps(values)}" for column, values in columns.items()
        )
        lines.append(f"  {json.dumps(name)}: {{\n{inner}\n  }}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def rows(result: "SimulationResult") -> list[tuple[str, str]]:
    """The result as a table."""
    found = result.as_dict()
    wasted = result.fragmentation_mean_ppm, result.fragmentation_max_ppm
    return [
        ("requests", f"{result.requests:,}"),
        ("rejected: larger than the pool, or no prompt", f"{result.rejected:,}"),
        ("steps", f"{result.steps:,}"),
        ("last request ended (s)", f"{result.makespan_ns / 1e9:,.1f}"),
        ("share of that time in steps", f"{found['busy_ratio']:.1%}"),
        ("prompt tokens", f"{result.prompt_tokens:,}"),
        ("found in the cache", f"{result.hit_tokens:,} ({found['hit_ratio']:.2%})"),
        ("computed in prompts", f"{result.prefill_tokens:,}"),
        ("generated tokens", f"{result.generated_tokens:,}"),
        ("generated tokens a second", f"{found['generated_tokens_per_s']:,.0f}"),
        ("batch size: mean", f"{found['batch_size_mean']:,.1f}"),
        ("batch size: p50 / p90 / p99 / max", _joined(found, "batch_size_{}", ("p50", "p90", "p99", "max"))),
        ("time to first token (ms): p50 / p90 / p99", _times(found, "ttft_{}_ns", ("p50", "p90", "p99"))),
        ("between tokens (ms): p50 / p90 / p99", _times(found, "inter_token_{}_ns", ("p50", "p90", "p99"))),
        ("end to end (ms): p50 / p99", _times(found, "end_to_end_{}_ns", ("p50", "p99"))),
        ("wait in the queue (ms): p50 / p99", _times(found, "queue_wait_{}_ns", ("p50", "p99"))),
        ("most requests waiting", f"{result.max_waiting:,}"),
        ("preemptions", f"{result.preemptions:,}"),
        ("tokens lost / computed again", f"{result.lost_tokens:,} / {result.recomputed_tokens:,}"),
        ("blocks copied on write", f"{result.cow_copies:,}"),
        ("most blocks at once", f"{result.peak_blocks:,}"),
        ("blocks saved by sharing", f"{found['sharing_saving']:.2%}"),
        ("fragmentation: mean / max", " / ".join(_share(ppm) for ppm in wasted)),
        *(() if result.offload is None else _offload_rows(result.offload)),
    ]  # fmt: skip


def _offload_rows(stats: "OffloadStats") -> list[tuple[str, str]]:
    in_time = stats.num_in_time / max(1, stats.num_in_time + stats.num_late)
    moved = " / ".join(f"{stats.num_bytes[route] / 2**30:,.1f}" for route in stats.num_bytes)
    return [
        ("evicted blocks: kept / refused", f"{stats.num_page_outs:,} / {stats.num_refused:,}"),
        ("pages given up for room", f"{stats.num_dropped:,}"),
        ("paged in / of these from the file", f"{stats.num_page_ins:,} / {stats.num_from_file:,}"),
        ("paged in again soon after", f"{stats.num_again:,}"),
        ("there before their request's turn", f"{in_time:.1%}"),
        ("waited for by requests (ms)", f"{stats.awaited_ns / _NS_PER_MS:,.1f}"),
        ("copies held back", f"{stats.num_throttled:,}"),
        (f"moved (GiB): {' / '.join(stats.num_bytes)}", moved),
    ]


def _served(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "device": arguments.device_profile or _DEVICE,
        "model": arguments.model_shape or _MODEL,
        "num_devices": arguments.num_devices or 1,
    }


def _cache(arguments: argparse.Namespace, trace: "Trace", served: dict[str, Any]) -> Any:
    """Settings of the cache; its size is what fits, if nobody said one."""
    from pagedkv.simulate import fitting_cache

    if arguments.num_blocks is None:
        raise ConfigError(
            "--num-blocks is inf, and a device's memory is not; give a number, or leave it away for as many "
            "as fit"
        )
    caching = not arguments.no_prefix_caching
    cache = fitting_cache(trace, block_size=arguments.block_size, prefix_caching=caching, **served)
    return replace(
        cache,
        num_blocks=arguments.num_blocks or cache.num_blocks,
        fork_mode=arguments.fork_mode or cache.fork_mode,
    )


def _given(arguments: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _joined(found: Mapping[str, float], pattern: str, keys: tuple[str, ...]) -> str:
    return " / ".join(f"{found[pattern.format(key)]:,}" for key in keys)


def _times(found: Mapping[str, float], pattern: str, keys: tuple[str, ...]) -> str:
    return " / ".join(f"{found[pattern.format(key)] / _NS_PER_MS:,.1f}" for key in keys)


def _share(ppm: int) -> str:
    return f"{ppm / _PER_MILLION:.2%}"


def _number(low: float, *, above: bool) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and (value > low if above else value >= low):
            return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a number {'above' if above else 'from'} {low:g}")

    return parse


_above_0 = _number(0, above=True)
_from_0 = _number(0, above=False)


def _ascending(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))
