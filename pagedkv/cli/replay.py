"""`pagedkv replay`: what would a cache do under the traffic of a trace."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pagedkv.cli import simulated
from pagedkv.cli.arguments import block_count, natural, positive
from pagedkv.cli.output import print_json, print_lines, print_table, progress_bar
from pagedkv.cli.pitfalls import finding_lines
from pagedkv.errors import ConfigError, PagedKVError

if TYPE_CHECKING:
    from pagedkv.replay import Progress, ReplayResult
    from pagedkv.traces import Trace

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Run a request trace through the block manager and count what happens.

Formats are recognised by their columns, gzip by its content: Mooncake and Qwen-Bailian jsonl, Azure and
BurstGPT csv, coding-agent sessions, jsonl with token ids (input_tok_ids) or text (prompt)."""

_MODES = """\
modes:
  sequential   one request after the other through the prefix cache: hits and evictions
  fcfs         requests wait, first come first served, for blocks for all their tokens: queue and waiting time
  simulated    the real scheduler and cache, on a virtual clock with the cost of a device: batch sizes,
               latencies, preemptions, fragmentation over time
  --fork N     N samples of each prompt: blocks that sharing saves, and copies on write that it costs"""

_NOT_CHOSEN = 0  # blocks
_LEAST_BYTES_PER_BLOCK = 60  # of the books of a pool, while it is set up

_LABELS = {
    "requests": "requests",
    "rejected": "rejected: larger than the pool",
    "prompt_blocks": "prompt blocks",
    "lookup_blocks": "looked up",
    "hit_blocks": "reused",
    "hit_ratio": "hit ratio: reused / prompt blocks",
    "device_hit_blocks": "reused on the device",
    "host_hit_blocks": "reused from the host (page-ins)",
    "page_outs": "evicted to the host (page-outs)",
    "full_prefix_hits": "requests that reused all they could",
    "evictions": "evictions",
    "blocks_allocated": "blocks allocated",
    "cached_end": "blocks cached at the end",
    "blocks_without_sharing": "blocks without sharing",
    "blocks_with_sharing": "blocks with sharing",
    "saving": "saving",
    "cow_copies": "blocks copied on write",
    "max_queue": "longest queue",
    "total_wait_ms": "waiting time, all requests (ms)",
    "makespan_ms": "last departure (ms)",
    "peak_requests": "most requests at once",
    "peak_blocks": "most blocks at once",
    "failed_requests": "failed in the trace, left out",
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv replay`."""
    parser = commands.add_parser(
        "replay",
        help="what a cache would do under the traffic of a trace",
        description=_DESCRIPTION,
        epilog=_MODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", metavar="TRACE", help="the file")
    parser.add_argument(
        "--mode",
        choices=["sequential", "fcfs", *simulated.SIMULATED],
        default="sequential",
        help="default: %(default)s",
    )
    parser.add_argument("--fork", type=positive, metavar="N", help="N samples of each prompt")
    parser.add_argument(
        "--num-blocks",
        type=block_count,
        default=_NOT_CHOSEN,
        metavar="N|inf",
        help="size of the pool; inf, the default, is as many as are ever needed. In simulated mode the "
        "default is as many as fit into the device",
    )
    parser.add_argument(
        "--host-blocks",
        type=positive,
        metavar="N",
        help="in sequential mode: blocks of a host tier, which keeps what the pool evicts",
    )
    parser.add_argument(
        "--block-size",
        type=positive,
        metavar="B",
        help="tokens in a block; by default what the trace's ids stand for, or 16. In sequential mode it has "
        "to be the size that the ids stand for, in simulated mode a divisor of it",
    )
    parser.add_argument(
        "--prefix-model",
        metavar="none|shared:N",
        help="for traces without block ids, which sequential and simulated mode need: prompts share nothing, "
        "or all begin with the same N tokens",
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="for traces of text: a name or path for transformers"
    )
    parser.add_argument(
        "--output-tokens",
        type=natural,
        metavar="N",
        default=256,
        help="tokens generated where a row of token ids or text does not say (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    simulated.add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay, and print the result.

    Raises:
        ConfigError: options contradict each other.
        PagedKVError: memory ran out.
    """
    if arguments.fork is not None and arguments.mode != "sequential":
        raise ConfigError(
            f"--fork runs one request after the other; it does not go with --mode {arguments.mode}"
        )
    if arguments.host_blocks is not None and not _needs_ids(arguments):
        raise ConfigError("--host-blocks is for --mode sequential, without --fork")
    if arguments.mode in simulated.SIMULATED:
        return _simulate(arguments)
    simulated.refuse_options(arguments)
    trace = _read(arguments)
    with _one_line_if_too_large(arguments), progress_bar("replaying") as progress:
        result = _replay(arguments, trace, progress)
    about = _about(arguments, trace)
    if arguments.json:
        print_json(result.as_dict() | about)
    else:
        shown = result.as_dict() | {k: v for k, v in about.items() if k in _LABELS}
        print_table(_title(about), [(_LABELS[name], _shown(value)) for name, value in shown.items()])
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    trace = simulated.read(arguments)
    with _one_line_if_too_large(arguments), progress_bar("simulating") as progress:
        result, about, findings = simulated.run(arguments, trace, progress)
    if arguments.json:
        sys.stdout.write(simulated.json_text(result, about, findings))
    else:
        title = f"{_title(about)}, {about['num_devices']} x {about['device_profile']}, {about['model_shape']}"
        recorded = [("recorded in", arguments.record)] if arguments.record is not None else []
        print_table(title, [*simulated.rows(result), *recorded])
        print_lines(finding_lines(findings))
    return 0


@contextmanager
def _one_line_if_too_large(arguments: argparse.Namespace) -> Iterator[None]:
    """Say in one line that memory ran out."""
    try:
        yield
    except MemoryError:
        raise PagedKVError(_out_of_memory(arguments.num_blocks or None)) from None


def _read(arguments: argparse.Namespace) -> "Trace":
    """The trace; its ids are left alone where blocks of another size make them meaningless."""
    from pagedkv.traces import read_trace

    return read_trace(
        arguments.trace,
        block_size=arguments.block_size,
        block_ids=_needs_ids(arguments) or arguments.block_size is None,
        prefix_model=arguments.prefix_model if _needs_ids(arguments) else None,
        tokenizer=arguments.tokenizer,
        num_output_tokens=arguments.output_tokens,
    )


def _needs_ids(arguments: argparse.Namespace) -> bool:
    return arguments.mode == "sequential" and arguments.fork is None


def _replay(arguments: argparse.Namespace, trace: "Trace", progress: "Progress | None") -> "ReplayResult":
    from pagedkv.replay import replay_fcfs, replay_fork, replay_sequential

    size, num_blocks = arguments.block_size, arguments.num_blocks or None
    if arguments.fork is not None:
        return replay_fork(trace, arguments.fork, num_blocks, block_size=size, progress=progress)
    if arguments.mode == "fcfs":
        return replay_fcfs(trace, num_blocks, block_size=size, progress=progress)
    num_host_blocks = arguments.host_blocks or 0
    return replay_sequential(trace, num_blocks, num_host_blocks=num_host_blocks, progress=progress)


def _out_of_memory(num_blocks: int | None) -> str:
    each = f"more than {_LEAST_BYTES_PER_BLOCK} bytes a block"
    if num_blocks is None:
        return f"out of memory: a pool of inf blocks costs {each}; give it a size with --num-blocks"
    least_mib = num_blocks * _LEAST_BYTES_PER_BLOCK // 2**20
    return (
        f"out of memory: a pool of {num_blocks} blocks costs more than {least_mib} MiB, {each}; "
        "choose a smaller --num-blocks"
    )


def _about(arguments: argparse.Namespace, trace: "Trace") -> dict[str, object]:
    """What was replayed, and how."""
    from pagedkv.replay import block_size_for

    about: dict[str, object] = {
        "mode": arguments.mode if arguments.fork is None else "fork",
        "trace": trace.name,
        "format": trace.format,
        "block_size": block_size_for(trace, arguments.block_size),
        "num_blocks": arguments.num_blocks or "inf",
    }
    if arguments.host_blocks is not None:
        about["host_blocks"] = arguments.host_blocks
    if arguments.fork is not None:
        about["num_samples"] = arguments.fork
    if trace.num_failed:
        about["failed_requests"] = trace.num_failed
    return about


def _title(about: dict[str, object]) -> str:
    samples = f" x{about['num_samples']}" if "num_samples" in about else ""
    return (
        f"{about['trace']} ({about['format']}), {about['mode']}{samples}: "
        f"{about['num_blocks']} blocks of {about['block_size']} tokens"
    )


def _shown(value: object) -> str:
    return f"{value:.2%}" if isinstance(value, float) else f"{value:,}"
