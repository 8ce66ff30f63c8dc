"""Steps to sample behind, without a scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pagedkv.request import Request, TokenPrompt
from pagedkv.sampling import SamplingParams
from pagedkv.scheduler.state import RequestState, SequenceState
from pagedkv.scheduler.step import Chunk, Decodes, ScheduledStep
from pagedkv.scheduler.token_table import TokenTable

__all__ = ["Member", "step_of"]


@dataclass
class Member:
    """A sequence behind which is sampled.

    Attributes:
        params: of its request.
        prompt: of its request.
        outputs: what it has generated.
        index: its place among the sequences of its request.
        request_id: of its request.
        stop_token_ids: of its request.
        sequence: the scheduler's own idea of it.
    """

    params: SamplingParams | None
    prompt: Sequence[int] = (1, 2, 3)
    outputs: Sequence[int] = ()
    index: int = 0
    request_id: str = "a"
    stop_token_ids: Sequence[int] = ()
    sequence: SequenceState = field(init=False)

    def __post_init__(self) -> None:
        request = Request(
            request_id=self.request_id,
            prompt=TokenPrompt(list(self.prompt)),
            max_tokens=1000,
            num_sequences=self.params.num_sequences if self.params else 1,
            stop_token_ids=self.stop_token_ids,
            sampling=self.params,
        )
        self._table = TokenTable()
        self.sequence = SequenceState(0, RequestState(request, 0, 0), self.index, self._table)
        self.sequence.begin()
        for token in self.outputs:
            self.append(token)

    def append(self, token: int) -> None:
        """Generate a token."""
        row = np.array([self.sequence.row], np.int64)
        self._table.append(row, np.array([token], np.int32), 0)

    @property
    def token_ids(self) -> list[int]:
        """Prompt and generated tokens."""
        return self.sequence.token_ids(0, self.sequence.num_tokens).tolist()


def step_of(
    decodes: Sequence[Member] = (), prefills: Sequence[Member] = (), *, changes: int = 1
) -> ScheduledStep:
    """A step in which these decode, and those end their prefill."""
    lengths = np.array([member.sequence.num_tokens for member in decodes], np.int64)
    return ScheduledStep(
        number=1,
        decodes=Decodes(
            sequences=[member.sequence for member in decodes],
            seq_ids=list(range(len(decodes))),
            token_ids=np.array([member.token_ids[-1] for member in decodes], np.int32),
            positions=lengths - 1,
            changes=changes,
        ),
        chunks=[
            Chunk(member.sequence, 0, member.sequence.num_tokens, samples=True, row=row)
            for row, member in enumerate(prefills)
        ],
    )
