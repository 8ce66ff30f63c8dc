"""The shapes that are measured: of each kernel every dtype, page, batch and length."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from pagedkv.bench.cases import COPIES, KERNELS, Case, Heads

__all__ = ["Axes", "Choice", "cases_of", "default_axes"]

_CHUNK = 512
"""New tokens of a prefill that continues a longer sequence."""
_NUM_LAYERS = 4


@dataclass(frozen=True, slots=True)
class Axes:
    """What varies; every combination is measured."""

    dtype: Sequence[str]
    page: Sequence[int]
    batch: Sequence[int]
    length: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What somebody asked for; None for what is usual.

    Attributes:
        device: "cpu" or "cuda".
        kernels: names; in whatever order, they are measured in that of `KERNELS`.
        quick: one shape of a kernel and dtype.
        dtype: names, `cases.ELEMENT_BYTES`.
        page: tokens in a block.
        batch: sequences.
        length: tokens of a sequence.
        heads: of a layer.
    """

    device: str
    kernels: Collection[str] = KERNELS
    quick: bool = False
    dtype: Sequence[str] | None = None
    page: Sequence[int] | None = None
    batch: Sequence[int] | None = None
    length: Sequence[int] | None = None
    heads: Heads = field(default_factory=Heads)


_CPU = {
    "paged_decode": Axes(("fp32", "bf16"), (16, 64), (4, 32), (256, 1024, 4096)),
    "paged_prefill": Axes(("fp32", "bf16"), (16, 64), (1,), (256, 1024, 2048)),
    "paged_decode_shared": Axes(("fp32", "bf16"), (16,), (4, 32), (256, 1024, 4096)),
    "": Axes(("fp32", "bf16"), (16, 64), (4,), (64, 256, 1024)),
}
_CUDA = {
    "paged_decode": Axes(("bf16", "fp8"), (16, 64), (1, 8, 32, 128), (1024, 4096, 16384)),
    "paged_prefill": Axes(("bf16", "fp8"), (16, 64), (1, 8), (1024, 4096, 16384)),
    "paged_decode_shared": Axes(("bf16", "fp8"), (16,), (8, 64), (1024, 4096, 16384)),
    "": Axes(("bf16", "fp8"), (16, 64), (8, 32), (256, 1024, 4096)),
}
_QUICK_CPU = {
    "paged_decode": Axes(("fp32", "bf16"), (16,), (32,), (1024,)),
    "paged_prefill": Axes(("fp32", "bf16"), (16,), (1,), (1024,)),
    "paged_decode_shared": Axes(("fp32", "bf16"), (16,), (32,), (1024,)),
    "": Axes(("fp32", "bf16"), (16,), (4,), (1024,)),
}
_QUICK_CUDA = {
    "paged_decode": Axes(("bf16",), (16,), (32,), (4096,)),
    "paged_prefill": Axes(("bf16",), (16,), (1,), (8192,)),
    "paged_decode_shared": Axes(("bf16",), (16,), (32,), (4096,)),
    "": Axes(("bf16",), (16,), (8,), (4096,)),
}


def default_axes(kernel: str, device: str, *, quick: bool) -> Axes:
    """What is usual for a kernel on a device."""
    on_cuda = device == "cuda"
    found = (_QUICK_CUDA if on_cuda else _QUICK_CPU) if quick else (_CUDA if on_cuda else _CPU)
    return found.get(kernel, found[""])


def cases_of(choice: Choice) -> list[Case]:
    """All shapes, kernel by kernel; lengths vary first, then batch, page and dtype."""
    return [case for kernel in KERNELS if kernel in choice.kernels for case in _of_kernel(kernel, choice)]


def _of_kernel(kernel: str, choice: Choice) -> Iterator[Case]:
    usual = default_axes(kernel, choice.device, quick=choice.quick)
    axes = (
        choice.dtype or usual.dtype,
        choice.page or usual.page,
        choice.batch or usual.batch,
        choice.length or usual.length,
    )
    for dtype, page, batch, length in product(*axes):
        case = Case(kernel=kernel, dtype=dtype, page=page, batch=batch, length=length, heads=choice.heads)
        yield from _filled(case)


def _filled(case: Case) -> Iterator[Case]:
    """With what a kernel has besides: a prompt is prefilled whole, and the last chunk of a long one."""
    if case.kernel == "paged_prefill":
        yield replace(case, query_len=case.length)
        if case.length > _CHUNK:
            yield replace(case, query_len=_CHUNK)
    elif case.kernel == "paged_decode_shared":
        yield replace(case, query_len=1, prefix=case.length * 3 // 4 // case.page * case.page)
    elif case.kernel == "kv_write":
        yield case
    elif case.kernel in COPIES:
        yield replace(case, num_layers=_NUM_LAYERS)
    else:
        yield replace(case, query_len=1)
