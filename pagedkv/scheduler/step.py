"""What a scheduler answers: which tokens the next step computes, and where their KV goes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.request import RequestId
from pagedkv.scheduler.state import FinishReason, SequenceState

__all__ = ["Chunk", "Decodes", "ScheduledStep", "StepResult"]


@dataclass(frozen=True, slots=True)
class Decodes:
    """Sequences that have one token to compute, the one that was sampled last. They come first in a step.

    Attributes:
        sequences: of each, its state.
        seq_ids: of each, its id in the cache.
        token_ids: of each, the token. Shape `[batch]` (int32).
        positions: of each, the token's position, from 0; the sequence's length is one more.
            Shape `[batch]` (int64).
        slot_mapping: of each, the flat slot of its KV. Shape `[batch]` (int64).
        rows: of each, its row in `BlockManager.block_tables`. Shape `[batch]` (int64).
        changes: a number that is another one whenever the batch has other members, or others' places.
    """

    sequences: Sequence[SequenceState] = ()
    seq_ids: Sequence[int] = ()
    token_ids: Int32s = field(default_factory=lambda: np.empty(0, np.int32))
    positions: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    slot_mapping: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    rows: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    changes: int = 0

    def __len__(self) -> int:
        """The size of the decode batch."""
        return len(self.seq_ids)


class Chunk(NamedTuple):
    """Tokens `start` .. `stop` - 1 of a sequence, prompt and generated ones alike.

    Attributes:
        sequence: its state; `sequence.token_ids(start, stop)` are the tokens, where they are known.
        start: tokens before this one have their KV in the sequence's blocks.
        stop: the first token that is not computed.
        samples: whether the next token is sampled behind it.
        row: its row in `BlockManager.block_tables`.
    """

    sequence: SequenceState
    start: int
    stop: int
    samples: bool
    row: int

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledStep:
    """A step: first the copies in their order, then the KV of all tokens, layer by layer, with attention.

    The packed order of the tokens is that of `decodes`, then that of `chunks`. Sampled is behind every
    decoded token and behind the chunks that ask for it, in that order. A step stays computable until it is
    committed, also if sequences in it are aborted meanwhile.

    Attributes:
        number: of the step in the block manager; 0 of an empty one.
        decodes: sequences that decode.
        chunks: pieces of prompts.
        copies: (source block, destination block), to run in order before any KV is written.
        preempted: requests that lost their blocks since the last step.
        wake_ns: for an empty step with requests that wait on purpose: when it is worth asking again.
        awaits_pages: for an empty step: whether pages are on their way, for whose blocks requests wait.
    """

    number: int = 0
    decodes: Decodes = field(default_factory=Decodes)
    chunks: Sequence[Chunk] = ()
    copies: Sequence[tuple[int, int]] = ()
    preempted: Sequence[RequestId] = ()
    wake_ns: int | None = None
    awaits_pages: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed."""
        return len(self.decodes) + sum(chunk.num_tokens for chunk in self.chunks)

    @property
    def num_kv_tokens(self) -> int:
        """Tokens whose KV is read: the context of every sequence, once for each."""
        num_decodes = len(self.decodes)
        return int(self.decodes.positions.sum()) + num_decodes + sum(chunk.stop for chunk in self.chunks)

    @property
    def batch_size(self) -> int:
        """Sequences that take part."""
        return len(self.decodes) + len(self.chunks)

    def sampling(self) -> "list[SequenceState]":
        """The sequences behind which a token is sampled, in order."""
        return [*self.decodes.sequences, *(chunk.sequence for chunk in self.chunks if chunk.samples)]

    @property
    def num_sampled(self) -> int:
        """How many tokens are sampled."""
        return len(self.decodes) + sum(chunk.samples for chunk in self.chunks)

    def __bool__(self) -> bool:
        """Whether anything is computed."""
        return bool(self.decodes.seq_ids or self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step has brought.

    Attributes:
        token_ids: a token for each of `ScheduledStep.sampling()`, in its order; what stands there for a
            sequence in `branches` or `ended` is not looked at. Shape `[num_sampled]` (int32).
        branches: sequences that go on with another number of tokens than one: with each of several, as
            samples and beams do, or with none, as a beam that is given up. Keys are `SequenceState.seq_id`.
        ended: sequences that end with the token that they got, for a reason that the scheduler does not see
            (a stop text; a beam search that is over).
    """

    token_ids: Int32s
    branches: Mapping[int, Sequence[int]] = field(default_factory=dict)
    ended: Mapping[int, FinishReason] = field(default_factory=dict)
