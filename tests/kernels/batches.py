"""Ragged batches over a pool that is NaN wherever no sequence has a token, and what they have to give."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pagedkv.kernels import AttentionOptions, SharedPrefixes
from pagedkv.kv_store import FP8_DTYPE, KVLayout, KVStore

__all__ = ["Batch", "allowed_error"]


class Batch:
    """Sequences, their pool, and queries.

    Args:
        lengths: of each sequence, tokens in the cache.
        query_lens: of each sequence, query tokens; an int for the same number, with the shape of a decode.
        heads: query heads and KV heads.
        head_dim: elements of a head.
        block_size: tokens in a block.
        dtype: of queries, and of KV unless `is_fp8`.
        is_fp8: KV is stored in 8 bits, with scales.
        layout: of the pool.
        shared: leading blocks that all sequences have in common.
        device: where.
        options: of attention, besides the scale.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        query_lens: int | Sequence[int] = 1,
        *,
        heads: tuple[int, int] = (2, 1),
        head_dim: int = 64,
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        is_fp8: bool = False,
        layout: KVLayout = KVLayout.HND,
        shared: int = 0,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        random = torch.Generator().manual_seed(sum(lengths) + head_dim + block_size)
        num_blocks = [-(-length // block_size) for length in lengths]
        store = KVStore(
            num_layers=1,
            num_blocks=sum(num_blocks) + 2,
            block_size=block_size,
            num_kv_heads=heads[1],
            head_dim=head_dim,
            dtype=FP8_DTYPE if is_fp8 else dtype,
            layout=layout,
            device=device,
        )
        self.kv = store.layer(0)
        self.seq_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
        self.block_tables = self._tables(num_blocks, shared, random).to(device)
        self._fill(lengths, block_size, random)
        self.query_lens = [query_lens] * len(lengths) if isinstance(query_lens, int) else list(query_lens)
        packed = torch.randn(sum(self.query_lens), heads[0], head_dim, generator=random)
        is_decode = isinstance(query_lens, int)
        shape = (len(lengths), query_lens, heads[0], head_dim) if is_decode else packed.shape
        self.query = packed.view(shape).to(device, dtype)
        self.out = torch.full_like(self.query, torch.nan)
        starts = torch.tensor([0, *self.query_lens]).cumsum(0)
        self.query_starts = starts.to(device, torch.int32)
        if is_fp8:
            options |= {"k_scale": 0.5, "v_scale": 2.0}
        if options.pop("sinks", False):
            options["sinks"] = torch.randn(heads[0], generator=random).to(device)
        self.options = AttentionOptions(scale=head_dim**-0.5, **options)
        self.is_decode = is_decode

    @staticmethod
    def _tables(num_blocks: Sequence[int], shared: int, random: torch.Generator) -> torch.Tensor:
        """Scattered blocks; behind each sequence's, one that nobody has."""
        order = torch.randperm(sum(num_blocks) + 2, generator=random).to(torch.int32)
        tables = order[-1].expand(len(num_blocks), max(num_blocks, default=0) + 1).clone()
        begin = 0
        for row, count in zip(tables, num_blocks, strict=True):
            row[:count] = order[begin : begin + count]
            row[: min(shared, count)] = order[: min(shared, count)]
            begin += count
        return tables

    def _fill(self, lengths: Sequence[int], block_size: int, random: torch.Generator) -> None:
        """Random keys and values in the slots of tokens, NaN in all others."""
        values = torch.randn(self.kv.shape, generator=random)
        is_token = torch.zeros(self.kv.shape[0], block_size, dtype=torch.bool)
        for row, length in zip(self.block_tables.cpu(), lengths, strict=True):
            for position in range(length):
                is_token[row[position // block_size], position % block_size] = True
        values[~is_token[:, None, None, :, None].expand(values.shape)] = torch.nan
        self.kv.copy_(values.to(self.kv.dtype))

    @property
    def arguments(self) -> tuple[torch.Tensor, ...]:
        """The tensors of paged_decode, or of paged_prefill, in order."""
        head = (self.query,) if self.is_decode else (self.query, self.query_starts)
        return (*head, self.kv, self.block_tables, self.seq_lens)

    def prefixes(self, group_sizes: Sequence[int], prefix_blocks: Sequence[int]) -> SharedPrefixes:
        """Groups of these sizes, with so many shared blocks each."""
        block_size, device = self.kv.shape[3], self.kv.device
        lens = [blocks * block_size for blocks in prefix_blocks]
        members = [n for n, size in zip(lens, group_sizes, strict=True) for _ in range(size)]
        return SharedPrefixes(
            torch.tensor([0, *group_sizes]).cumsum(0).to(device, torch.int32),
            torch.tensor(members, dtype=torch.int32, device=device),
            max(group_sizes, default=1),
        )

    def exact(self) -> torch.Tensor:
        """What the output has to be, in float64, by the plain reference."""
        return self._reference(torch.float64)

    def in_dtype(self) -> torch.Tensor:
        """What the plain reference gives in the query's own dtype: the yardstick of rounding."""
        return self._reference(self.query.dtype)

    def _reference(self, dtype: torch.dtype) -> torch.Tensor:
        from pagedkv.kernels.paged_decode.reference import paged_decode
        from pagedkv.kernels.paged_prefill.reference import paged_prefill

        reference: Callable[..., None] = paged_decode if self.is_decode else paged_prefill
        query, *integers, kv, tables, lens = self.arguments
        out = torch.empty_like(query, dtype=dtype)
        reference(query.to(dtype), *integers, kv.to(dtype), tables, lens, self.options, out=out)
        return out


def allowed_error(batch: Batch) -> float:
    """Twice the error of torch in the same dtype, a rounding of the result, and what sums in float32 leave.

    Kernels add up scores and outputs in float32, whatever the dtype, in an order of their own: a product of
    `head_dim` terms is off by about so many roundings as its root. Of a short sequence torch's own error is
    by chance far smaller than that, and so says too little alone.
    """
    exact = batch.exact()
    error = float((batch.in_dtype().double() - exact).abs().max())
    rounding = (
        torch.finfo(batch.query.dtype).eps + torch.finfo(torch.float32).eps * batch.query.shape[-1] ** 0.5
    )
    return 2 * error + rounding * (1 + float(exact.abs().max()))
