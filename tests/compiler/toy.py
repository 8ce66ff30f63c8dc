"""A small kernel, and providers good and bad. Imported by worker processes, and where triton is installed."""

from collections.abc import Callable
from pathlib import Path

import torch
import triton
import triton.language as tl

from pytest_pagedkv.compiler.variant import Variant


@triton.jit
def _scaled(values, factor):
    return values * factor


@triton.jit(do_not_specialize=["num_rows"])
def scale_rows(source, target, stride: tl.int64, num_rows, factor, size: tl.constexpr):
    """Grid: (rows,)."""
    row = tl.program_id(0)
    columns = tl.arange(0, size)
    if row < num_rows:
        values = tl.load(source + row * stride + columns)
        tl.store(target + row * stride + columns, _scaled(values, factor))


@triton.jit
def product(left, right, out, size: tl.constexpr):
    """One tile."""
    tile = tl.arange(0, size)[:, None] * size + tl.arange(0, size)[None, :]
    tl.store(out + tile, tl.dot(tl.load(left + tile), tl.load(right + tile)))


@triton.jit
def hungry(source, target, size: tl.constexpr):
    """A thread holds more than the registers can."""
    tile = tl.arange(0, size)[:, None] * size + tl.arange(0, size)[None, :]
    values = tl.load(source + tile)
    tl.store(target + tile, values + tl.sum(values, 0)[None, :] + tl.sum(values, 1)[:, None])


@triton.jit
def wrong(source, size: tl.constexpr):
    """Has a shape that no tile has."""
    tl.load(source + tl.arange(0, size + 1))


def _rows(dtype: torch.dtype, offset: int = 0) -> Variant:
    rows = torch.empty(8, 1024, dtype=dtype, device="meta")
    arguments = {
        "source": rows.flatten()[offset:],
        "target": rows,
        "stride": 1024,
        "num_rows": 8,
        "factor": 0.5,
    }
    return Variant(kernel=scale_rows, arguments=arguments, constants={"size": 1024})


def _product() -> Variant:
    matrix = torch.empty(64, 64, dtype=torch.float16, device="meta")
    out = torch.empty(64, 64, device="meta")
    arguments = {"left": matrix, "right": matrix, "out": out}
    return Variant(kernel=product, arguments=arguments, constants={"size": 64})


def _hungry() -> Variant:
    tile = torch.empty(128, 128, device="meta")
    return Variant(
        kernel=hungry, arguments={"source": tile, "target": tile}, constants={"size": 128}, num_warps=1
    )


def variants(arch: int) -> dict[str, Callable[[], Variant]]:
    """Those that compile."""
    found = {"scale_rows-bf16": lambda: _rows(torch.bfloat16), "product": _product}
    if arch >= 90:
        found |= {"scale_rows-odd": lambda: _rows(torch.bfloat16, offset=1), "hungry": _hungry}
    return found


def broken(arch: int) -> dict[str, Callable[[], Variant]]:
    """Those that do not."""
    tensor = torch.empty(64, device="meta")
    return {
        "wrong": lambda: Variant(kernel=wrong, arguments={"source": tensor}, constants={"size": 64}),
        "left-out": lambda: Variant(kernel=wrong, arguments={}, constants={"size": 64}),
        "unknown": lambda: Variant(kernel=wrong, arguments={"sauce": tensor}, constants={"size": 64}),
        "text": lambda: Variant(kernel=wrong, arguments={"source": "x"}, constants={"size": 64}),
        "no-kernel": lambda: Variant(kernel=print, arguments={}, constants={}),
        "raises": lambda: Variant(kernel=wrong, arguments={"source": Path("/nowhere").stat()}, constants={}),
        "dies": lambda: _die(),
    }


def raising(arch: int) -> dict[str, Callable[[], Variant]]:
    """A provider that cannot."""
    raise ValueError(f"nothing for sm_{arch}")


def listing(arch: int) -> list[str]:
    """A provider that returns something else."""
    return ["scale_rows"]


def _die() -> Variant:
    import os

    os.write(2, b"LLVM ERROR: cannot select\n")
    os._exit(134)
