"""Steps without a scheduler."""

from collections.abc import Sequence
from itertools import count

import numpy as np

from pagedkv.request import KeyPrompt, Request
from pagedkv.sampling.params import SamplingParams
from pagedkv.scheduler.state import RequestState, SequenceState
from pagedkv.scheduler.step import Chunk, Decodes, ScheduledStep
from pagedkv.scheduler.token_table import TokenTable

__all__ = ["sequence", "step"]

_NEW = count(1000)

Piece = tuple[int, int, bool]
"""Start and stop of a chunk, and whether a token is sampled behind it."""


def sequence(number: int = 0, index: int = 0, sampling: SamplingParams | None = None) -> SequenceState:
    """A sequence of a request of its own."""
    request = Request(
        request_id=number,
        prompt=KeyPrompt(10),
        max_tokens=5,
        num_sequences=sampling.num_sequences if sampling else 1,
        sampling=sampling,
    )
    return SequenceState(100 + number, RequestState(request, number, 0), index, TokenTable())


def step(
    positions: Sequence[int] = (),
    pieces: Sequence[Piece] = (),
    *,
    copies: int = 0,
    decoding: Sequence[SequenceState] | None = None,
    prefilling: Sequence[SequenceState] | None = None,
    changes: int | None = None,
) -> ScheduledStep:
    """A step whose decodes are at these positions, and which computes these pieces of prompts."""
    members = decoding or [sequence(number) for number in range(len(positions))]
    others = prefilling or [sequence(1000 + number) for number in range(len(pieces))]
    return ScheduledStep(
        number=1,
        decodes=Decodes(
            sequences=members,
            seq_ids=[each.seq_id for each in members],
            positions=np.array(positions, np.int64),
            changes=next(_NEW) if changes is None else changes,
        ),
        chunks=[Chunk(each, *piece, row=0) for each, piece in zip(others, pieces, strict=True)],
        copies=[(0, 1)] * copies,
    )
