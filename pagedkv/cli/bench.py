"""`pagedkv bench`: how far this machine's kernels are from what it can do."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pagedkv.bench.cases import ELEMENT_BYTES, KERNELS
from pagedkv.cli.arguments import positive, seconds
from pagedkv.cli.output import print_json, print_lines, print_rich, progress_bar
from pagedkv.errors import ConfigError

if TYPE_CHECKING:
    from pagedkv.bench.grid import Choice
    from pagedkv.bench.results import Run

__all__ = ["add_parser", "run_kernels"]

_EXIT_WRONG = 1
_EXIT_INTERRUPTED = 130
_SECONDS = 1.0
_SECONDS_QUICK = 0.5

_DESCRIPTION = """\
Measure what this machine can do (bandwidth, matrix products), then every kernel over a grid of shapes: its
time, as a share of the least that the machine needs for the same bytes and operations, and against torch's
attention on contiguous KV, flex_attention, FlashInfer and vLLM's Triton kernel where they can be had. Every
result is checked against 64 bits. docs/bench.md says how to read it."""

_EPILOG = """\
Lists replace the usual ones, and every combination is measured:
  pagedkv bench kernels --kernel paged_decode --batch 1 8 --length 1024 8192 --page 16
Exit code: 0; 1 if a result was wrong or a kernel failed; 2 for wrong arguments; 130 after Ctrl-C, with what
was measured until then."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of `pagedkv bench`."""
    parser = commands.add_parser("bench", help="kernels, against the limits of this machine and their peers")
    subjects = parser.add_subparsers(title="subjects", required=True, metavar="SUBJECT")
    kernels = subjects.add_parser(
        "kernels",
        help="attention and copies over a paged KV cache",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kernels.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda if torch finds a GPU")
    kernels.add_argument(
        "--kernel", nargs="+", choices=KERNELS, default=KERNELS, metavar="NAME", help=", ".join(KERNELS)
    )
    kernels.add_argument("--quick", action="store_true", help="one shape of each kernel and dtype")
    kernels.add_argument("--dtype", nargs="+", choices=list(ELEMENT_BYTES), help="of KV")
    kernels.add_argument("--page", nargs="+", type=positive, metavar="N", help="tokens in a block")
    kernels.add_argument("--batch", nargs="+", type=positive, metavar="N", help="sequences")
    kernels.add_argument("--length", nargs="+", type=positive, metavar="N", help="tokens of a sequence")
    kernels.add_argument(
        "--seconds",
        type=seconds,
        metavar="S",
        help=f"for each shape, checks and all (default: {_SECONDS:g}, with --quick {_SECONDS_QUICK:g})",
    )
    kernels.add_argument("--json", action="store_true", help="print one JSON object")
    kernels.add_argument("-o", "--output", metavar="FILE", help="besides, write a page of HTML with plots")
    kernels.set_defaults(run=run_kernels)


def run_kernels(arguments: argparse.Namespace) -> int:
    """Measure, and show what was found.

    Raises:
        ConfigError: torch is not installed or finds no GPU, or the page cannot be written.
    """
    _require_torch()
    from pagedkv.bench.grid import cases_of
    from pagedkv.bench.kernels import bench_kernels, device_named, prepare
    from pagedkv.bench.table import about

    device = device_named(arguments.device)
    if arguments.output is not None:
        _require_writable(Path(arguments.output))
    cases = cases_of(_choice(arguments, device.type))
    bench = prepare(device, cases)
    if not arguments.json:
        width = max(len(name) for name, _ in about(bench.machine, bench.limits))
        print_lines(
            [(name.ljust(width + 2), "dim"), (value, "")]
            for name, value in about(bench.machine, bench.limits)
        )
    each_s = arguments.seconds or (_SECONDS_QUICK if arguments.quick else _SECONDS)
    with progress_bar("measuring") as progress:
        run = bench_kernels(cases, bench, seconds=each_s, progress=progress)
    if arguments.json:
        print_json(run.as_plain())
    else:
        _print_run(run)
    if arguments.output is not None:
        _write_page(Path(arguments.output), run)
    if run.is_interrupted:
        return _EXIT_INTERRUPTED
    return _EXIT_WRONG if run.num_wrong else 0


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise ConfigError(
            "pagedkv bench kernels needs torch, which is not installed: pip install 'pagedkv[torch]'"
        )


def _choice(arguments: argparse.Namespace, device: str) -> "Choice":
    from pagedkv.bench.grid import Choice

    return Choice(
        device=device,
        kernels=arguments.kernel,
        quick=arguments.quick,
        dtype=arguments.dtype,
        page=arguments.page,
        batch=arguments.batch,
        length=arguments.length,
    )


def _print_run(run: "Run") -> None:
    from pagedkv.bench.table import LEGEND, remarks, tables

    for table in tables(run):
        print_lines([[]])
        print_rich(table)
    print_lines([[], [(LEGEND, "dim")], *([line] for line in remarks(run))])


def _require_writable(path: Path) -> None:
    """Look before minutes of measuring, not behind."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"-o {path}: cannot be written; name a file in a folder that exists and is yours")


def _write_page(path: Path, run: "Run") -> None:
    from pagedkv.bench.page import render_page

    path.write_text(render_page(run), encoding="utf-8", newline="\n")
