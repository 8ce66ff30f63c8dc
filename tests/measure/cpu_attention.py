"""Attention over pages on the CPU beside scaled_dot_product_attention over contiguous keys and values.

    python -m tests.measure.cpu_attention [--rounds 10] [--only decode] [--threads 2] [--json OUT]

Both take turns in one run. A ratio of times is that of the best rounds. Where lengths differ, the peer gets
sequences of one length with as many tokens in all. On a machine that others use too, CPU time says more than
wall time, and OMP_WAIT_POLICY=PASSIVE keeps threads that wait from counting as work.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import scaled_dot_product_attention

from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode.cpu import paged_decode
from pagedkv.kernels.paged_prefill.cpu import paged_prefill
from pagedkv.kernels.workspace import Workspace
from pagedkv.kv_store import FP8_DTYPE, KVLayout, KVStore

__all__ = ["Case", "Times", "main", "measure"]

_FILE_WIDTH = 130  # columns where the output is no terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call that is timed.

    Attributes:
        name: of its row.
        lengths: tokens of each sequence.
        query_len: how many of them are query tokens; more than one makes it a prefill.
        aim: largest ratio that is good; None for no aim.
    """

    name: str
    lengths: tuple[int, ...] = (1024,) * 32
    query_len: int = 1
    num_kv_heads: int = 8
    group_size: int = 4
    head_dim: int = 128
    block_size: int = 16
    dtype: torch.dtype = torch.bfloat16
    stored: torch.dtype | None = None
    layout: KVLayout = KVLayout.SPLIT_NHD
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """Best times of one side, in seconds."""

    wall_s: float
    cpu_s: float

    def best(self, other: "Times") -> "Times":
        """The smaller of each."""
        return Times(min(self.wall_s, other.wall_s), min(self.cpu_s, other.cpu_s))


def _cases() -> list[Case]:
    decode = Case(name="decode 32 x 1024")
    ragged = tuple(range(1008, 1024)) * 2
    small = {"num_kv_heads": 2, "head_dim": 64, "block_size": 16, "dtype": torch.float32}
    return [
        replace(decode, dtype=torch.float32, aim=2.0),
        replace(decode, aim=2.6),
        replace(decode, dtype=torch.float16),
        replace(decode, stored=FP8_DTYPE),
        *(replace(decode, layout=layout) for layout in KVLayout if layout != decode.layout),
        *(replace(decode, block_size=size) for size in (8, 64, 256)),
        replace(decode, name="decode 32 x 1008..1023", lengths=ragged),
        replace(decode, name="decode 32 x 1008..1023", lengths=ragged, dtype=torch.float32),
        Case(name="decode 256 x 100", lengths=(100,) * 256),
        Case(name="decode 1 x 8000, 255 x 10", lengths=(8000, *(10,) * 255)),
        Case(name="decode 1 x 32768", lengths=(32768,)),
        Case(name="decode 16 x 512, small", lengths=(512,) * 16, **small),
        Case(name="prefill 1 x 2048", lengths=(2048,), query_len=2048),
        Case(name="prefill 1 x 2048", lengths=(2048,), query_len=2048, dtype=torch.float32),
        Case(name="prefill 4 x 512", lengths=(512,) * 4, query_len=512),
        Case(name="prefill 1 x 512 after 3584", lengths=(4096,), query_len=512),
        Case(name="prefill 64 x 32 after 224", lengths=(256,) * 64, query_len=32),
    ]


def _ours(case: Case) -> Callable[[], object]:
    num_blocks = [-(-length // case.block_size) for length in case.lengths]
    store = KVStore(
        num_layers=1,
        num_blocks=sum(num_blocks),
        block_size=case.block_size,
        num_kv_heads=case.num_kv_heads,
        head_dim=case.head_dim,
        dtype=case.stored or case.dtype,
        layout=case.layout,
    )
    store.layer(0).copy_(torch.randn(store.layer(0).shape))
    tables = torch.zeros(len(case.lengths), max(num_blocks), dtype=torch.int32)
    for i, blocks in enumerate(torch.randperm(sum(num_blocks)).split(num_blocks)):
        tables[i, : len(blocks)] = blocks
    lens = torch.tensor(case.lengths, dtype=torch.int32)
    options = AttentionOptions(scale=case.head_dim**-0.5)
    shape = (len(case.lengths), case.query_len, case.num_kv_heads * case.group_size, case.head_dim)
    query, workspace = torch.randn(shape).to(case.dtype), Workspace("cpu")
    common: dict[str, Any] = {"out": torch.empty_like(query), "workspace": workspace}
    if case.query_len == 1:
        return lambda: paged_decode(query, store.layer(0), tables, lens, options, **common)
    starts = torch.arange(0, len(case.lengths) + 1, dtype=torch.int32) * case.query_len
    packed, common["out"] = query.flatten(0, 1), common["out"].flatten(0, 1)
    return lambda: paged_prefill(packed, starts, store.layer(0), tables, lens, options, **common)


def _peer(case: Case) -> Callable[[], object]:
    batch, num_tokens = len(case.lengths), max(1, sum(case.lengths) // len(case.lengths))
    shape = (batch, case.num_kv_heads, num_tokens, case.head_dim)
    keys, values = (torch.randn(shape).to(case.dtype) for _ in range(2))
    if case.query_len == 1:
        query = torch.randn(batch, case.num_kv_heads, case.group_size, case.head_dim).to(case.dtype)
        return lambda: scaled_dot_product_attention(query, keys, values)
    num_heads = case.num_kv_heads * case.group_size
    keys, values = (part.repeat_interleave(case.group_size, 1) for part in (keys, values))
    query = torch.randn(batch, num_heads, case.query_len, case.head_dim).to(case.dtype)
    if case.query_len == num_tokens:
        return lambda: scaled_dot_product_attention(query, keys, values, is_causal=True)
    first = num_tokens - case.query_len
    mask = torch.ones(case.query_len, num_tokens, dtype=torch.bool).tril(first)
    return lambda: scaled_dot_product_attention(query, keys, values, attn_mask=mask)


def measure(case: Case, num_rounds: int) -> tuple[Times, Times]:
    """Best times of ours and of the peer, which take turns."""
    torch.manual_seed(0)
    sides = (_ours(case), _peer(case))
    for side in sides:
        side()
    first, *rest = ((_timed(sides[0]), _timed(sides[1])) for _ in range(num_rounds))
    ours, peer = first
    for one, other in rest:
        ours, peer = ours.best(one), peer.best(other)
    return ours, peer


def _timed(side: Callable[[], object]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    side()
    return Times(time.perf_counter() - wall, time.process_time() - cpu)


def _row(case: Case, ours: Times, peer: Times) -> dict[str, object]:
    return {
        "case": case.name,
        "dtype": str(case.stored or case.dtype).removeprefix("torch."),
        "page": case.block_size,
        "layout": case.layout.name,
        "ours_ms": round(ours.wall_s * 1e3, 2),
        "peer_ms": round(peer.wall_s * 1e3, 2),
        "wall_ratio": round(ours.wall_s / peer.wall_s, 2),
        "cpu_ratio": round(ours.cpu_s / peer.cpu_s, 2),
        "aim": case.aim,
    }


def _table(rows: list[dict[str, object]]) -> Table:
    table = Table(title="Paged beside contiguous attention: best wall time, ratios of wall and of CPU time")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "case" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.measure.cpu_attention", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each row (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the rows to this file")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    chosen = [case for case in _cases() if options.only in case.name]
    if not chosen:
        parser.error(f"no row has {options.only!r} in its name")
    rows = [_row(case, *measure(case, options.rounds)) for case in chosen]
    console = Console()
    (console if console.is_terminal else Console(width=_FILE_WIDTH)).print(_table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
