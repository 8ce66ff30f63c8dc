"""Requests and their sequences while they are live."""

import enum
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pagedkv.block_ids import Int32s
from pagedkv.request import NO_TOKENS, Request, RequestId
from pagedkv.scheduler.token_table import TokenTable

__all__ = ["FinishReason", "RequestState", "SequenceState", "Status"]

FinishReason = Literal["stop", "length", "abort"]


class Status(enum.Enum):
    """What a request is doing."""

    WAITING = "waiting"
    """It has no blocks: it is new, or was preempted."""
    PREFILLING = "prefilling"
    """It has blocks, and tokens to compute before the next one is sampled."""
    DECODING = "decoding"
    """Each of its sequences has one token to compute."""
    FINISHED = "finished"


class SequenceState:
    """One sample or beam of a request.

    Attributes:
        seq_id: its id in the cache.
        request: what it belongs to.
        index: its place among the sequences that the request ever had.
        row: its row in the table of tokens, while it is live and has begun; -1 before.
        is_placed: it has blocks.
        num_computed: tokens whose KV is in them, while its request is prefilling.
        finish_reason: why it ended; None while it is live.
    """

    __slots__ = (
        "_final",
        "_table",
        "finish_reason",
        "index",
        "is_placed",
        "num_computed",
        "request",
        "row",
        "seq_id",
    )

    def __init__(self, seq_id: int, request: "RequestState", index: int, table: TokenTable) -> None:
        self.seq_id = seq_id
        self.request = request
        self.index = index
        self.row = -1
        self.is_placed = False
        self.num_computed = 0
        self.finish_reason: FinishReason | None = None
        self._table = table
        self._final: Int32s | None = None

    def begin(self) -> None:
        """Get a row, if it has none yet."""
        if self.row < 0:
            self.row = self._table.open(self.request.request)

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self._final is None

    @property
    def num_tokens(self) -> int:
        """Its length: prompt and generated tokens."""
        return self.request.request.prompt.num_tokens + self.num_output_tokens

    @property
    def num_output_tokens(self) -> int:
        """Tokens that were generated."""
        if self._final is not None:
            return len(self._final)
        return int(self._table.num_outputs[self.row]) if self.row >= 0 else 0

    @property
    def output_ids(self) -> Int32s:
        """The tokens that were generated; a view until the next step. Shape `[num_output_tokens]` (int32)."""
        if self._final is not None:
            return self._final
        return self._table.output_ids(self.row) if self.row >= 0 else NO_TOKENS

    def token_ids(self, start: int, stop: int) -> Int32s:
        """Its tokens `start` .. `stop` - 1, prompt and generated; nothing if the prompt's are not known."""
        return self.request.request.prompt.tokens(self.output_ids)[start:stop]

    def branch(self, seq_id: int, index: int) -> "SequenceState":
        """A sequence with the same tokens so far."""
        child = SequenceState(seq_id, self.request, index, self._table)
        child.begin()
        self._table.copy(self.row, child.row)
        return child

    def finish(self, reason: FinishReason | None) -> None:
        """Keep its tokens, and give its row back."""
        self._final = self.output_ids.copy()
        if self.row >= 0:
            self._table.close(self.row)
        self.finish_reason = reason


class Held(NamedTuple):
    """Why a request could not be admitted, for lack of blocks.

    Attributes:
        num_blocks: free blocks that it needs.
        until: the look, of all looks at who waits, at which it is worth counting again.
    """

    num_blocks: int
    until: int


@dataclass(slots=True, eq=False)
class RequestState:
    """A request and what has become of it.

    Attributes:
        request: what was asked for.
        number: how many came before it.
        arrival_ns: when it came.
        status: what it is doing.
        sequences: those that are live, in the order in which they began.
        finished: those that ended by themselves, in the order in which they did; beams that were given up
            are not among them.
        num_sequences_begun: how many there ever were.
        num_cached_tokens: prompt tokens that it found in the cache when it was first admitted.
        num_preemptions: how often it lost its blocks.
        num_lost_tokens: computed tokens that it lost with them.
        first_scheduled_ns: when its first step began; None before.
        first_token_ns: when its first token came; None before.
        finished_ns: when it ended; None before.
        is_promoted: it has waited so long that it goes first.
        num_overtakes: how many were admitted before it because it did not fit.
        queued_ns: since when it waits.
        num_ended_before: of a preempted one, how many requests had ended then; it waits for another end.
        held: why it could not be admitted when it was last looked at.
        why_held: the same in words, whatever the reason; None if it was not looked at since it waits.
        looked_at: the look, of all looks at who waits, of which `why_held` is.
    """

    request: Request
    number: int
    arrival_ns: int
    status: Status = Status.WAITING
    sequences: list[SequenceState] = field(default_factory=list)
    finished: list[SequenceState] = field(default_factory=list)
    num_sequences_begun: int = 0
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    num_lost_tokens: int = 0
    first_scheduled_ns: int | None = None
    first_token_ns: int | None = None
    finished_ns: int | None = None
    is_promoted: bool = False
    num_overtakes: int = 0
    queued_ns: int = 0
    num_ended_before: int = -1
    held: "Held | None" = None
    why_held: str | None = None
    looked_at: int = 0

    @property
    def request_id(self) -> RequestId:
        """The caller's id."""
        return self.request.request_id

    @property
    def width(self) -> int:
        """Sequences that it runs at once, or will, when its prompt is computed."""
        is_whole = self.num_sequences_begun > 1
        return len(self.sequences) if is_whole else self.request.num_sequences
