"""The inputs of a packed forward, from a step: made by a few vector operations, sent by one transfer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pagedkv.block_manager import BlockManager
from pagedkv.scheduler.step import Chunk, Decodes, ScheduledStep

__all__ = ["ChunkInputs", "DecodeInputs", "PackedInputs", "idle", "pack"]

_ALIGNMENT = 256  # bytes
_Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """Where the sequences that decode have their KV.

    Attributes:
        tables: `[batch, max_blocks]` (int32) blocks.
        lengths: `[batch]` (int32) tokens, the new one included.
    """

    tables: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True, slots=True)
class ChunkInputs:
    """Where the sequences that compute a chunk have their KV.

    Attributes:
        starts: `[num_chunks + 1]` (int32) first token of each chunk among those of all chunks.
        tables: `[num_chunks, max_blocks]` (int32) blocks.
        lengths: `[num_chunks]` (int32) tokens, the chunk's included.
    """

    starts: torch.Tensor
    tables: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True, slots=True)
class PackedInputs:
    """Inputs of a forward: the tokens of all sequences behind one another, those that decode first.

    Attributes:
        token_ids: `[num_tokens]` (int64).
        positions: `[num_tokens]` (int64), each in its sequence.
        slots: `[num_tokens]` (int64) where its KV goes.
        sampled: `[num_sampled]` (int64) tokens behind which one is sampled; None for all.
        decodes: of the first tokens, one each; None if there are none.
        chunks: of the others; None if there are none.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    sampled: torch.Tensor | None
    decodes: DecodeInputs | None
    chunks: ChunkInputs | None

    @property
    def num_decodes(self) -> int:
        """Tokens that decode."""
        return 0 if self.decodes is None else len(self.decodes.lengths)


def pack(step: ScheduledStep, cache: BlockManager, device: torch.device) -> PackedInputs:
    """The inputs of a step.

    Args:
        step: what the scheduler asked for.
        cache: whose block tables it means.
        device: where to.
    """
    batch = len(step.decodes)
    tokens = _tokens(step, cache)
    arrays = [*tokens, *_decode_arrays(step.decodes, cache), *_chunk_arrays(step.chunks, cache)]
    sampled = None if batch == len(tokens[0]) else _sampled(step)
    if sampled is not None:
        arrays.append(sampled)
    sent = iter(_send(arrays, device))
    return PackedInputs(
        token_ids=next(sent),
        positions=next(sent),
        slots=next(sent),
        decodes=DecodeInputs(next(sent), next(sent)) if batch else None,
        chunks=ChunkInputs(next(sent), next(sent), next(sent)) if step.chunks else None,
        sampled=None if sampled is None else next(sent),
    )


def idle(
    device: torch.device, *, num_decodes: int, max_blocks: int = 1, num_chunk_tokens: int = 0
) -> PackedInputs:
    """Inputs that write nothing and read nothing: rows of padding, for warming up and to be filled in.

    Args:
        device: where.
        num_decodes: sequences that decode, of length 0.
        max_blocks: width of their tables.
        num_chunk_tokens: tokens behind them that belong to no sequence.
    """
    num_tokens = num_decodes + num_chunk_tokens

    def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    return PackedInputs(
        token_ids=zeros(num_tokens, dtype=torch.int64),
        positions=zeros(num_tokens, dtype=torch.int64),
        slots=zeros(num_tokens, dtype=torch.int64) - 1,
        sampled=None,
        decodes=DecodeInputs(zeros(num_decodes, max_blocks), zeros(num_decodes)) if num_decodes else None,
        chunks=ChunkInputs(zeros(2), zeros(1, 1), zeros(1)) if num_chunk_tokens else None,
    )


def _tokens(step: ScheduledStep, cache: BlockManager) -> Sequence[_Array]:
    """Ids, positions and slots of all tokens."""
    decodes, chunks = step.decodes, step.chunks
    ids = decodes.token_ids.astype(np.int64)
    if not chunks:
        return ids, decodes.positions, decodes.slot_mapping
    rows = np.repeat([chunk.row for chunk in chunks], [chunk.num_tokens for chunk in chunks])
    positions = np.concatenate([np.arange(chunk.start, chunk.stop) for chunk in chunks])
    block, offset = np.divmod(positions, cache.config.block_size)
    slots = cache.block_tables[rows, block] * np.int64(cache.config.block_size) + offset
    prompts = [chunk.sequence.token_ids(chunk.start, chunk.stop) for chunk in chunks]
    return (
        np.concatenate((ids, *prompts)),
        np.concatenate((decodes.positions, positions)),
        np.concatenate((decodes.slot_mapping, slots)),
    )


def _decode_arrays(decodes: Decodes, cache: BlockManager) -> Sequence[_Array]:
    if not len(decodes):
        return ()
    lengths = (decodes.positions + 1).astype(np.int32)
    return (_tables(cache, decodes.rows, int(lengths.max())), lengths)


def _chunk_arrays(chunks: Sequence[Chunk], cache: BlockManager) -> Sequence[_Array]:
    if not chunks:
        return ()
    rows = np.array([chunk.row for chunk in chunks])
    lengths = np.array([chunk.stop for chunk in chunks], np.int32)
    starts = np.zeros(len(chunks) + 1, np.int32)
    np.cumsum([chunk.num_tokens for chunk in chunks], out=starts[1:])
    return (starts, _tables(cache, rows, int(lengths.max())), lengths)


def _tables(cache: BlockManager, rows: _Array, longest: int) -> _Array:
    """Block tables of some rows, as wide as their longest sequence."""
    return cache.block_tables[:, : -(-longest // cache.config.block_size)][rows]


def _sampled(step: ScheduledStep) -> _Array:
    """Places of the tokens behind which one is sampled."""
    batch = len(step.decodes)
    ends = batch - 1 + np.cumsum([chunk.num_tokens for chunk in step.chunks])
    return np.concatenate((np.arange(batch), ends[[chunk.samples for chunk in step.chunks]]))


def _send(arrays: Sequence[_Array], device: torch.device) -> list[torch.Tensor]:
    """Arrays as tensors on a device, by one asynchronous transfer for all of them."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    starts, end = [], 0
    for array in arrays:
        starts.append(end)
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    staging = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    for start, array in zip(starts, arrays, strict=True):
        staging.numpy()[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    there = staging.to(device, non_blocking=True)
    return [
        there[start : start + array.nbytes].view(torch.from_numpy(array).dtype).view(array.shape)
        for start, array in zip(starts, arrays, strict=True)
    ]
