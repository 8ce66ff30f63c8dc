"""The tensors of an attention case: a scrambled table, NaN wherever no sequence has a token."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from pytest_pagedkv.conformance.kernels.adapter import AttentionOptions, Layout
from pytest_pagedkv.conformance.kernels.buffers import Guarded, as_bytes, dtype_named, guarded_integers
from pytest_pagedkv.conformance.kernels.cases import AttentionCase, PoolCase
from pytest_pagedkv.conformance.kernels.oracle import attend_exactly, attend_in_torch

__all__ = ["Problem", "Slot", "filled_layers", "random_numbers"]

Slot = tuple[int, int]
"""Block and offset in it."""


def _new_layer(pool: PoolCase, device: str) -> Guarded:
    """A layer's KV, poisoned, between red zones of at least a block."""
    shape = (pool.num_blocks, 2, pool.num_kv_heads, pool.block_size, pool.head_dim)
    dtype = dtype_named(pool.dtype)
    block_bytes = 2 * pool.num_kv_heads * pool.block_size * pool.head_dim * dtype.itemsize
    order = Layout[pool.layout].value
    return Guarded(shape, dtype, device, order=order, zone_bytes=-(-block_bytes // 256) * 256)


def filled_layers(pool: PoolCase, num_layers: int, rng: np.random.Generator, device: str) -> list[Guarded]:
    """Layers with random content."""
    layers = [_new_layer(pool, device) for _ in range(num_layers)]
    for layer in layers:
        layer.tensor.copy_(random_numbers(rng, layer.tensor.shape, pool.dtype, device))
        layer.keep()
    return layers


def random_numbers(
    rng: np.random.Generator, shape: Sequence[int], dtype: str, device: str, scale: float = 1.0
) -> torch.Tensor:
    """Normal numbers, rounded to a dtype; no more than 8 bits without infinities can hold."""
    drawn = np.clip(rng.standard_normal(shape, dtype=np.float32) * scale, -200.0, 200.0)
    return torch.from_numpy(drawn).to(device).to(dtype_named(dtype))


def _tables(case: AttentionCase, rng: np.random.Generator) -> list[list[int]]:
    """Blocks of each sequence, scattered over the pool, the leading ones shared if the case has it so."""
    block_size = case.pool.block_size
    free = rng.permutation(case.pool.num_blocks).tolist()
    tables: list[list[int]] = []
    for length, _ in case.lengths:
        common = min(case.shared_blocks, length // block_size, case.lengths[0][0] // block_size)
        table = tables[0][:common] if tables else []
        tables.append(table + [free.pop() for _ in range(-(-length // block_size) - len(table))])
    return tables


@dataclass(frozen=True, slots=True)
class Expected:
    """What a sequence's output has to be.

    Attributes:
        exact: the result (float64, on the CPU).
        torch_error: the largest error of torch in the same dtype.
        rounding: what any kernel may have besides: a rounding of the result, and two of the exponents in
            float32, where an error is as large as the score is.
    """

    exact: torch.Tensor
    torch_error: float
    rounding: float


class Problem:
    """A case's tensors.

    Args:
        case: what is called.
        device: where tensors are made.

    Attributes:
        tables: blocks of each sequence.
        slots: of each sequence, the slots of its tokens, in order.
        kv: the layer; only the sequences' slots are not NaN.
        query: `[batch, query_len, heads, head_dim]`, or packed `[num_tokens, heads, head_dim]`.
        out: as query.
        rows: of each sequence, its rows of the packed output.
    """

    def __init__(self, case: AttentionCase, device: str) -> None:
        pool, rng = case.pool, np.random.default_rng(case.seed)
        self.case, self.device = case, device
        self.tables = _tables(case, rng)
        self.slots: list[list[Slot]] = [
            [(table[i // pool.block_size], i % pool.block_size) for i in range(length)]
            for table, (length, _) in zip(self.tables, case.lengths, strict=True)
        ]
        self.kv = _new_layer(pool, device)
        self._values = random_numbers(rng, self.kv.tensor.shape, pool.dtype, device, case.magnitude)
        starts = np.cumsum([0, *(query_len for _, query_len in case.lengths)]).tolist()
        self.rows = [slice(*pair) for pair in pairwise(starts)]
        shape = self._query_shape(starts[-1])
        self.query, self.out = (Guarded(shape, dtype_named(case.dtype), device) for _ in range(2))
        self.query.tensor.copy_(random_numbers(rng, shape, case.dtype, device, case.magnitude))
        self.options = self._options(rng)
        numbers: dict[str, Sequence[int] | Sequence[Sequence[int]]] = {
            "query_starts": starts,
            "block_tables": self._padded_tables(),
            "seq_lens": [length for length, _ in case.lengths],
        }
        self._integers = {name: guarded_integers(made, torch.int32, device) for name, made in numbers.items()}
        self.poison_all_but({slot for slots in self.slots for slot in slots})

    def _query_shape(self, num_tokens: int) -> tuple[int, ...]:
        case = self.case
        heads = (case.pool.num_kv_heads * case.gqa_ratio, case.pool.head_dim)
        if case.kernel == "paged_decode":
            return (len(case.lengths), case.lengths[0][1], *heads)
        return (num_tokens, *heads)

    def _options(self, rng: np.random.Generator) -> AttentionOptions:
        case, heads = self.case, (self.query.tensor.shape[-2],)
        return AttentionOptions(
            scale=case.pool.head_dim**-0.5,
            sliding_window=case.sliding_window or None,
            soft_cap=case.soft_cap or None,
            sinks=random_numbers(rng, heads, "float32", self.device) if case.sinks else None,
            k_scale=case.kv_scale,
            v_scale=case.kv_scale * 2 if case.pool.dtype != case.dtype else 1.0,
        )

    def _padded_tables(self) -> list[list[int]]:
        """Rows of one width; what is behind a sequence's blocks are blocks that it does not have."""
        width = max(map(len, self.tables)) + 1
        rows = []
        for table in self.tables:
            foreign = sorted(set(range(self.case.pool.num_blocks)) - set(table)) or table[:1]
            rows.append([*table, *(foreign[i % len(foreign)] for i in range(width - len(table)))])
        return rows

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the kernel is called with, in order."""
        starts, tables, lens = (guarded.tensor for guarded in self._integers.values())
        head = (self.query.tensor,) if self.case.kernel == "paged_decode" else (self.query.tensor, starts)
        return (*head, self.kv.tensor, tables, lens, self.out.tensor, self.options)

    @property
    def inputs(self) -> dict[str, Guarded]:
        """The tensors that a kernel only reads, by argument."""
        return {"query": self.query, "kv": self.kv, **self._integers}

    def poison_all_but(self, slots: Collection[Slot]) -> None:
        """Make every other slot of the pool NaN."""
        self.kv.poison()
        chosen = torch.tensor(sorted(slots)).to(self.device)
        blocks, offsets = chosen.unbind(1)
        as_bytes(self.kv.tensor)[blocks, :, :, offsets] = as_bytes(self._values)[blocks, :, :, offsets]
        self.kv.keep()

    def expected(self) -> list[Expected]:
        """What each sequence's output has to be."""
        return [self._expected(sequence) for sequence in range(len(self.slots))]

    def _expected(self, sequence: int) -> Expected:
        options = self.options
        query = self.query.tensor.reshape(-1, *self.query.tensor.shape[-2:])[self.rows[sequence]]
        slots = self.slots[sequence]
        stored = torch.stack([self._values[block, :, :, offset] for block, offset in slots])
        scales = (options.k_scale, options.v_scale)
        keys, values = (stored[:, i].double() * scales[i] for i in (0, 1))
        doubles = [part.cpu().numpy() for part in (query.double(), keys, values)]
        exact = torch.from_numpy(attend_exactly(doubles[0], doubles[1], doubles[2], options))
        in_torch = attend_in_torch(query, keys.to(query.dtype), values.to(query.dtype), options)
        largest_score = options.scale * float(query.double().norm(dim=-1).max() * keys.norm(dim=-1).max())
        rounding = torch.finfo(query.dtype).eps * (1 + float(exact.abs().max()))
        rounding += 2 * torch.finfo(torch.float32).eps * (1 + largest_score) * float(values.abs().max())
        return Expected(exact, float((in_torch.double().cpu() - exact).abs().max()), rounding)
