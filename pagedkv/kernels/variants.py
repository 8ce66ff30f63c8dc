"""The configurations of our kernels that ship, described for the ahead-of-time compiler.

`pytest --pagedkv-perf` compiles them for each architecture without a GPU, and compares what the compiler says
with what is stored. The launchers are those that a GPU runs; only their tensors have no memory.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch

from pagedkv.kernels.attention_launch import HEAD_DIMS
from pagedkv.kernels.block_copy import gpu as block_copy
from pagedkv.kernels.block_staging import gpu as block_staging
from pagedkv.kernels.kv_write import gpu as kv_write
from pagedkv.kernels.launch import MIN_FP8_ARCH, Launch, Target
from pagedkv.kernels.options import AttentionOptions
from pagedkv.kernels.paged_decode import gpu as paged_decode
from pagedkv.kernels.paged_decode_shared import gpu as paged_decode_shared
from pagedkv.kernels.paged_decode_shared.prefixes import SharedPrefixes
from pagedkv.kernels.paged_prefill import gpu as paged_prefill
from pagedkv.kv_store import FP8_DTYPE, KVLayers, KVScales

__all__ = ["Case", "every", "representative"]

Provided = Mapping[str, Callable[[], Launch]]
"""Variants by name."""

_BATCH, _NUM_BLOCKS, _MAX_BLOCKS = 4, 64, 64
_NUM_QUERY_HEADS, _NUM_KV_HEADS = 32, 8
_NUM_SMS = {80: 108, 90: 132}
_PAGES = (8, 16, 32, 64, 128, 256)
_DTYPES = {
    "bf16": (torch.bfloat16, torch.bfloat16),
    "fp16": (torch.float16, torch.float16),
    "fp32": (torch.float32, torch.float32),
    "fp8": (torch.bfloat16, FP8_DTYPE),
}
"""Dtypes of queries, or of new keys and values, and of what is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration of one kernel.

    Attributes:
        kernel: one of `_LAUNCHES`.
        dtype: of what is stored.
        page: tokens in a block.
        head_dim: elements of a head.
        has_all: with sliding window, soft cap and sinks; without, with none of them.
    """

    kernel: str
    dtype: str = "bf16"
    page: int = 16
    head_dim: int = 128
    has_all: bool = False

    @property
    def name(self) -> str:
        """Such as "paged_decode-bf16-page16-dim128"."""
        parts = (self.kernel, self.dtype, f"page{self.page}", f"dim{self.head_dim}")
        return "-".join([*parts, *(["window-cap-sinks"] if self.has_all else [])])

    @property
    def kv(self) -> torch.Tensor:
        """One layer."""
        shape = (_NUM_BLOCKS, 2, _NUM_KV_HEADS, self.page, self.head_dim)
        return _meta(*shape, dtype=_DTYPES[self.dtype][1])

    @property
    def options(self) -> AttentionOptions:
        """Those of an attention layer."""
        plain = AttentionOptions(scale=self.head_dim**-0.5)
        sinks = _meta(_NUM_QUERY_HEADS, dtype=torch.float32)
        return replace(plain, sliding_window=4096, soft_cap=30.0, sinks=sinks) if self.has_all else plain

    def rows(self, *leading: int, num_heads: int = _NUM_QUERY_HEADS) -> torch.Tensor:
        """Queries, or keys or values, of this shape."""
        return _meta(*leading, num_heads, self.head_dim, dtype=_DTYPES[self.dtype][0])

    def is_for(self, arch: int) -> bool:
        """An architecture can do it; those before Ada know no e4m3, and only write it."""
        return self.dtype != "fp8" or arch >= MIN_FP8_ARCH or self.kernel not in _ATTENTION


def representative(arch: int) -> Provided:
    """Few enough to be compiled at every change; each kernel, dtype, page size and head dimension occurs."""
    return _provided(_representative(), arch)


def every(arch: int) -> Provided:
    """All of them, which takes long: narrow the tests down with -k."""
    return _provided(_every(), arch)


def _provided(cases: Iterator[Case], arch: int) -> Provided:
    target = Target(arch, _NUM_SMS[arch])
    return {case.name: partial(_described, case, target) for case in cases if case.is_for(arch)}


def _described(case: Case, target: Target) -> Launch:
    launches, position = _LAUNCHES[case.kernel]
    return launches(case, target)[position]


def _representative() -> Iterator[Case]:
    for kernel in ("paged_decode", "paged_prefill"):
        yield from (Case(kernel=kernel, page=page) for page in _PAGES)
        yield from (Case(kernel=kernel, head_dim=head_dim) for head_dim in HEAD_DIMS if head_dim != 128)
        yield from (Case(kernel=kernel, dtype=dtype) for dtype in ("fp16", "fp32", "fp8"))
        yield Case(kernel=kernel, dtype="fp8", page=128)
        yield Case(kernel=kernel, has_all=True)
    yield Case(kernel="paged_decode.whole", has_all=True)
    for kernel in ("paged_decode.drafts", "paged_prefill"):
        yield Case(kernel=kernel, dtype="fp8", head_dim=256)
        yield Case(kernel=kernel, dtype="fp32", has_all=True)
    yield Case(kernel="paged_decode.drafts")
    yield Case(kernel="paged_decode.merge")
    yield Case(kernel="paged_decode.merge", dtype="fp32", head_dim=80, has_all=True)
    for kernel in ("paged_decode_shared.prefix", "paged_decode_shared.own"):
        yield Case(kernel=kernel)
        yield Case(kernel=kernel, dtype="fp8", page=128, has_all=True)
    for kernel in ("kv_write", "block_copy", "block_gather", "block_scatter"):
        yield Case(kernel=kernel)
        yield Case(kernel=kernel, dtype="fp8", page=64, head_dim=80)


def _every() -> Iterator[Case]:
    for kernel, dtype, page, head_dim in product(_LAUNCHES, _DTYPES, _PAGES, HEAD_DIMS):
        case = Case(kernel=kernel, dtype=dtype, page=page, head_dim=head_dim)
        yield case
        if kernel in _ATTENTION:
            yield replace(case, has_all=True)


def _decode(case: Case, target: Target, *, batch: int = _BATCH, query_len: int = 1) -> list[Launch]:
    query = case.rows(batch, query_len)
    return paged_decode.launches(
        query,
        case.kv,
        *_sequences(batch),
        case.options,
        out=query,
        workspace=None,
        split_size=None,
        target=target,
    )


def _decode_whole(case: Case, target: Target) -> list[Launch]:
    """With so many sequences that none has to be split."""
    return _decode(case, target, batch=256)


def _decode_drafts(case: Case, target: Target) -> list[Launch]:
    """With drafts so long that the rows of a tile are as many as there can be."""
    return _decode(case, target, query_len=16)


def _decode_shared(case: Case, target: Target) -> list[Launch]:
    query, lens = case.rows(_BATCH, 1), _meta(_BATCH, dtype=torch.int32)
    prefixes = SharedPrefixes(_meta(2, dtype=torch.int32), lens, max_group_size=_BATCH)
    return paged_decode_shared.launches(
        query,
        case.kv,
        *_sequences(_BATCH),
        prefixes,
        case.options,
        out=query,
        workspace=None,
        split_size=None,
        target=target,
    )


def _prefill(case: Case, target: Target) -> list[Launch]:
    query, starts = case.rows(1000), _meta(_BATCH + 1, dtype=torch.int32)
    return paged_prefill.launches(
        query, starts, case.kv, *_sequences(_BATCH), case.options, out=query, target=target
    )


def _kv_write(case: Case, target: Target) -> list[Launch]:
    row = case.rows(1000, num_heads=_NUM_KV_HEADS)
    return kv_write.launches(row, row, case.kv, _meta(1000, dtype=torch.int64), KVScales(), target)


def _block_copy(case: Case, target: Target) -> list[Launch]:
    return block_copy.launches(KVLayers([case.kv]), _meta(3, 2, dtype=torch.int64), target)


def _staging(case: Case) -> tuple[torch.Tensor, KVLayers, torch.Tensor]:
    staging = _meta(3, 1, *case.kv.shape[1:], dtype=case.kv.dtype)
    return staging, KVLayers([case.kv]), _meta(3, dtype=torch.int64)


def _gather(case: Case, target: Target) -> list[Launch]:
    staging, layers, block_ids = _staging(case)
    return block_staging.gather_launches(layers, block_ids, staging, target)


def _scatter(case: Case, target: Target) -> list[Launch]:
    return block_staging.scatter_launches(*_staging(case), target)


def _sequences(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Block tables and lengths."""
    return _meta(batch, _MAX_BLOCKS, dtype=torch.int32), _meta(batch, dtype=torch.int32)


def _meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


_LAUNCHES: Mapping[str, tuple[Callable[[Case, Target], list[Launch]], int]] = {
    "paged_decode": (_decode, 0),
    "paged_decode.merge": (_decode, 1),
    "paged_decode.whole": (_decode_whole, 0),
    "paged_decode.drafts": (_decode_drafts, 0),
    "paged_decode_shared.prefix": (_decode_shared, 0),
    "paged_decode_shared.own": (_decode_shared, 1),
    "paged_prefill": (_prefill, 0),
    "kv_write": (_kv_write, 0),
    "block_copy": (_block_copy, 0),
    "block_gather": (_gather, 0),
    "block_scatter": (_scatter, 0),
}
"""How a kernel is launched, and which of the launches it is."""

_ATTENTION = tuple(name for name in _LAUNCHES if name.startswith("paged_"))
