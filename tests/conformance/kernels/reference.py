"""Kernels that keep the contract, in torch; every step is a method, so that a fault replaces one."""

from collections.abc import Sequence

import torch

from pytest_pagedkv.conformance.kernels.adapter import (
    AttentionOptions,
    KernelAdapter,
    KernelFeature,
    Layout,
)

_LOG2E = 1.4426950408889634


class ReferenceKernels(KernelAdapter):
    """Correct, on the CPU, with every feature."""

    features = ~KernelFeature.NONE
    dtypes = ("float32", "float16", "bfloat16")
    layouts = tuple(Layout)
    query_lens = (1, 3)

    def paged_decode(self, query, kv, block_tables, seq_lens, out, options):
        """Attend, with equal numbers of query tokens."""
        starts = torch.arange(len(query) + 1) * query.shape[1]
        self.attend_all(query.flatten(0, 1), starts, kv, block_tables, seq_lens, out.flatten(0, 1), options)

    def paged_prefill(self, query, query_starts, kv, block_tables, seq_lens, out, options):
        """Attend, with query tokens packed."""
        self.attend_all(query, query_starts, kv, block_tables, seq_lens, out, options)

    def attend_all(self, query, starts, kv, block_tables, seq_lens, out, options: AttentionOptions) -> None:
        """Attend, sequence by sequence."""
        bounds = starts.tolist()
        for sequence, length in enumerate(seq_lens.tolist()):
            rows = slice(bounds[sequence], bounds[sequence + 1])
            keys, values = self.gather(kv, block_tables, sequence, length, query.dtype, options)
            result = self.attend(query[rows], keys, values, length, options)
            self.store(out, rows, result.to(out.dtype))

    def gather(self, kv, block_tables, sequence: int, length: int, dtype, options: AttentionOptions):
        """Keys and values of a sequence, in its order: `[2, num_tokens, num_kv_heads, head_dim]`."""
        blocks = block_tables[sequence, : -(-length // kv.shape[3])]
        tokens = kv.view(torch.uint8)[blocks].view(kv.dtype).permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :length]
        scales = torch.tensor(self.scales(options))[:, None, None, None]
        return (tokens.float() * scales).to(dtype).float()

    def scales(self, options: AttentionOptions) -> tuple[float, float]:
        """What stored keys and values are multiplied with."""
        return options.k_scale, options.v_scale

    def attend(self, query, keys, values, length: int, options: AttentionOptions):
        """Attention of one sequence in float32."""
        kv_heads = self.kv_heads(query.shape[1], keys.shape[1])
        scores = torch.einsum("qhd,khd->hqk", query.float(), keys[:, kv_heads])
        scores = self.cap(scores * options.scale, options)
        seen = self.visible(query.shape[0], length, len(keys), options)
        scores = scores.masked_fill(~seen, -torch.inf)
        weights = self.softmax(scores, options)
        return torch.einsum("hqk,khd->qhd", weights, values[:, kv_heads])

    def kv_heads(self, num_query_heads: int, num_kv_heads: int):
        """The KV head of each query head."""
        return torch.arange(num_query_heads) // (num_query_heads // num_kv_heads)

    def cap(self, scores, options: AttentionOptions):
        """The soft cap."""
        return (
            scores if options.soft_cap is None else options.soft_cap * torch.tanh(scores / options.soft_cap)
        )

    def visible(self, query_len: int, length: int, num_keys: int, options: AttentionOptions):
        """`[query_len, num_keys]`: which key each query token sees."""
        distance = torch.arange(length - query_len, length)[:, None] - torch.arange(num_keys)
        window = options.sliding_window or length
        return (distance >= 0) & (distance < window)

    def softmax(self, scores, options: AttentionOptions):
        """Weights, with sinks if there are any."""
        if options.sinks is None:
            return scores.softmax(-1)
        sinks = options.sinks[:, None, None].expand(-1, scores.shape[1], 1)
        return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]

    def store(self, out, rows: slice, result) -> None:
        """Write a sequence's rows."""
        out[rows] = result

    def kv_write(self, key, value, kv, slot_mapping, k_scale, v_scale):
        """Write token by token."""
        for token, slot in enumerate(slot_mapping.tolist()):
            if self.is_kept(slot):
                block, offset = divmod(slot, kv.shape[3])
                for part, tokens, scale in ((0, key, k_scale), (1, value, v_scale)):
                    self.put(kv, (block, part, offset), self.stored(tokens[token], scale, kv.dtype))

    def is_kept(self, slot: int) -> bool:
        """Whether a slot is one."""
        return slot >= 0

    def stored(self, row, scale: float, dtype):
        """What is stored of a row."""
        return (row.float() / scale).to(dtype)

    def put(self, kv, place: tuple[int, int, int], row) -> None:
        """Store the row of one token."""
        block, part, offset = place
        kv[block, part, :, offset] = row

    def block_copy(self, kvs: Sequence[torch.Tensor], copies):
        """Copy block by block."""
        for kv in kvs:
            for source, destination in copies.tolist():
                kv[destination] = kv[source]

    def block_gather(self, kvs, block_ids, staging):
        """Gather block by block."""
        for layer, kv in enumerate(kvs):
            for place, block in enumerate(block_ids.tolist()):
                staging[place, layer] = kv[block]

    def block_scatter(self, staging, kvs, block_ids):
        """Scatter block by block."""
        for layer, kv in enumerate(kvs):
            for place, block in enumerate(block_ids.tolist()):
                kv[block] = staging[place, layer]


class SplitKernels(ReferenceKernels):
    """Rounds as fast kernels do: tiles, a running maximum, base 2, weights in the dtype of the values."""

    tile = 7
    case_share = 0.5

    def attend(self, query, keys, values, length: int, options: AttentionOptions):
        """Attention of one sequence, tile by tile."""
        kv_heads = self.kv_heads(query.shape[1], keys.shape[1])
        top = torch.full((query.shape[1], len(query)), -torch.inf)
        total, sums = torch.zeros_like(top), torch.zeros(*top.shape, query.shape[2])
        if options.sinks is not None:
            top, total = options.sinks[:, None].expand_as(top) * _LOG2E, total + 1
        seen = self.visible(len(query), length, len(keys), options)
        for start in range(0, length, self.tile):
            tile = slice(start, start + self.tile)
            scores = torch.einsum("qhd,khd->hqk", query.float(), keys[tile, kv_heads]) * options.scale
            scores = (self.cap(scores, options) * _LOG2E).masked_fill(~seen[:, tile], -torch.inf)
            above = torch.maximum(top, scores.amax(-1))
            weights = torch.exp2(scores - above[..., None]).nan_to_num()
            shrunk = torch.exp2(top - above).nan_to_num()
            total = total * shrunk + weights.sum(-1)
            rounded = weights.to(query.dtype).float()
            sums = sums * shrunk[..., None] + torch.einsum("hqk,khd->hqd", rounded, values[tile, kv_heads])
            top = above
        return (sums / total[..., None]).transpose(0, 1)
