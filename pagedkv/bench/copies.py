"""Problems for the kernels that move KV, what is right, and the contestants.

Peers are torch's own ways of doing the same, and "clone", a plain copy of what is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pagedkv.bench.attention import fill
from pagedkv.bench.cases import COMPUTE_DTYPE, Case
from pagedkv.bench.limits import DTYPES
from pagedkv.bench.results import OURS
from pagedkv.bench.timing import Contestant, Outputs
from pagedkv.kv_store import FP8_DTYPE, KVStore

__all__ = ["ExactCheck", "copies_problem"]

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}
"""Integers as wide as an element, by bytes."""
_NAN_BITS = {1: 255, 2: -1, 4: -1}
"""An integer that is NaN in all dtypes, by bytes of an element."""

Problem = tuple["ExactCheck", list[Contestant]]


@dataclass(frozen=True, slots=True)
class ExactCheck:
    """Results have to be equal to what is right, bit by bit.

    Attributes:
        expected: what is right, as many tensors as a result has.
        limit: no difference is.
    """

    expected: Outputs
    limit: float = 0.0

    def error(self, outputs: Outputs) -> float:
        """0 where every bit is right; else the norm of the difference over the norm of what is right."""
        pairs = list(zip(outputs, self.expected, strict=True))
        if all(torch.equal(_bits(found), _bits(right)) for found, right in pairs):
            return 0.0
        difference = sum(float((found.double() - right.double()).norm()) for found, right in pairs)
        error = difference / sum(float(right.double().norm()) for _, right in pairs)
        return error or float("nan")  # a zero of the other sign


def copies_problem(case: Case, device: torch.device, generator: torch.Generator) -> Problem:
    """What is right, and the contestants, of which the first is ours."""
    if case.kernel == "kv_write":
        return _kv_write(case, device, generator)
    build = {"block_copy": _block_copy, "block_gather": _block_gather, "block_scatter": _block_scatter}
    return build[case.kernel](_Blocks(case, device, generator))


def _kv_write(case: Case, device: torch.device, generator: torch.Generator) -> Problem:
    from pagedkv.kernels import kv_write

    dtype = DTYPES[case.dtype]
    layer = _store(case, case.num_blocks, device).layer(0)
    slots = torch.randperm(case.num_blocks * case.page, generator=generator, device=device)[: case.num_tokens]
    shape = (case.num_tokens, case.heads.num_kv_heads, case.heads.head_dim)
    incoming = DTYPES[COMPUTE_DTYPE[case.dtype]]
    key, value = (torch.randn(shape, generator=generator, device=device).to(incoming) for _ in range(2))
    blocks, offsets = slots // case.page, slots % case.page

    def index_put() -> None:
        for part, each in enumerate((key, value)):
            _movable(layer)[blocks, part, :, offsets] = _movable(each.to(dtype))

    def written(_: object) -> Outputs:
        return [_movable(layer)[blocks, part, :, offsets] for part in (0, 1)]

    def poison() -> None:
        _poison(layer)

    expected = [_movable(each.to(dtype)) for each in (key, value)]
    return ExactCheck(expected), [
        Contestant(OURS, lambda: kv_write(key, value, layer, slots), written, poison),
        Contestant("index_put", index_put, written, poison),
        _clone(expected),
    ]


class _Blocks:
    """A pool of twice as many blocks as the sequences have, those blocks, anywhere, and the others."""

    def __init__(self, case: Case, device: torch.device, generator: torch.Generator) -> None:
        self.layers = _store(case, 2 * case.num_blocks, device).layers
        for layer in self.layers.tensors:
            fill(layer, generator)
        order = torch.randperm(2 * case.num_blocks, generator=generator, device=device)
        self.ids, self.others = order.chunk(2)
        self.views = [_movable(layer) for layer in self.layers.tensors]
        self.staged = torch.stack([view[self.ids] for view in self.views], dim=1)
        """`[num_blocks, num_layers, 2, num_kv_heads, page, head_dim]`: the first ones' content."""

    def at(self, ids: torch.Tensor) -> Outputs:
        """The content of blocks, layer by layer."""
        return [view[ids] for view in self.views]

    def poison(self, ids: torch.Tensor) -> None:
        """Fill blocks with NaN."""
        for view in self.views:
            _bits(view).index_fill_(0, ids, _NAN_BITS[view.element_size()])


def _block_copy(blocks: _Blocks) -> Problem:
    from pagedkv.kernels import block_copy

    copies = torch.stack([blocks.ids, blocks.others], dim=1).contiguous()
    expected = blocks.at(blocks.ids)

    def index_copy() -> None:
        for view in blocks.views:
            view.index_copy_(0, blocks.others, view.index_select(0, blocks.ids))

    def copied(_: object) -> Outputs:
        return blocks.at(blocks.others)

    def poison() -> None:
        blocks.poison(blocks.others)

    return ExactCheck(expected), [
        Contestant(OURS, lambda: block_copy(blocks.layers, copies), copied, poison),
        Contestant("index_copy", index_copy, copied, poison),
        _clone(expected),
    ]


def _block_gather(blocks: _Blocks) -> Problem:
    from pagedkv.kernels import block_gather

    staging = torch.empty_like(blocks.staged)
    typed = _as_stored(staging, blocks)

    def index_select() -> None:
        for index, view in enumerate(blocks.views):
            staging[:, index] = view[blocks.ids]

    def gathered(_: object) -> Outputs:
        return [staging]

    def poison() -> None:
        _poison(staging)

    return ExactCheck([blocks.staged]), [
        Contestant(OURS, lambda: block_gather(blocks.layers, blocks.ids, typed), gathered, poison),
        Contestant("index_select", index_select, gathered, poison),
        _clone([blocks.staged]),
    ]


def _block_scatter(blocks: _Blocks) -> Problem:
    """The blocks go elsewhere in the pool than where they came from."""
    from pagedkv.kernels import block_scatter

    typed = _as_stored(blocks.staged, blocks)

    def index_copy() -> None:
        for index, view in enumerate(blocks.views):
            view.index_copy_(0, blocks.others, blocks.staged[:, index])

    def scattered(_: object) -> Outputs:
        return [torch.stack(list(blocks.at(blocks.others)), dim=1)]

    def poison() -> None:
        blocks.poison(blocks.others)

    return ExactCheck([blocks.staged]), [
        Contestant(OURS, lambda: block_scatter(typed, blocks.layers, blocks.others), scattered, poison),
        Contestant("index_copy", index_copy, scattered, poison),
        _clone([blocks.staged]),
    ]


def _store(case: Case, num_blocks: int, device: torch.device) -> KVStore:
    return KVStore(
        num_layers=case.num_layers,
        num_blocks=num_blocks,
        block_size=case.page,
        num_kv_heads=case.heads.num_kv_heads,
        head_dim=case.heads.head_dim,
        dtype=DTYPES[case.dtype],
        device=device,
    )


def _clone(sources: Sequence[torch.Tensor]) -> Contestant:
    """A plain copy."""
    targets = [torch.empty_like(each) for each in sources]

    def clone() -> None:
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)

    def poison() -> None:
        for target in targets:
            _poison(target)

    return Contestant("clone", clone, lambda _: targets, poison)


def _movable(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers of 8 bits as integers: torch indexes those on every device."""
    return tensor.view(torch.uint8) if tensor.dtype == FP8_DTYPE else tensor


def _as_stored(tensor: torch.Tensor, blocks: _Blocks) -> torch.Tensor:
    return tensor.view(blocks.layers.tensors[0].dtype)


def _poison(tensor: torch.Tensor) -> None:
    _bits(tensor).fill_(_NAN_BITS[tensor.element_size()])


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(_INTEGERS[tensor.element_size()])
