"""The one event stream: pool, manager and everything above them emit these; stats and logs fold them.

A component holds an `EventStream` and asks `if (emit := events.emit) is not None` before it builds an event,
so with no sink attached the hot path pays for one attribute and one comparison.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedkv.block_ids import Int64s

__all__ = [
    "AllocationFailed",
    "BatchLimited",
    "BlocksAllocated",
    "BlocksCopied",
    "BlocksFreed",
    "BlocksRegistered",
    "BlocksShared",
    "BlocksUnregistered",
    "Event",
    "EventStream",
    "PrefixLookup",
    "RequestFinished",
    "RequestHeld",
    "RequestPreempted",
    "RequestPromoted",
    "RequestQueued",
    "RequestStarted",
    "SequenceAdmitted",
    "SequenceForked",
    "SequenceReleased",
    "SequenceTruncated",
    "Sink",
    "StepBooked",
    "StepCommitted",
    "StepScheduled",
    "TokensAppended",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of every event. Counts are non-negative; ids are those of the caller."""


@dataclass(frozen=True, slots=True)
class BlocksAllocated(Event):
    """Blocks left the free queue for a new owner; `num_evicted` of them gave up cached content."""

    num_blocks: int
    num_evicted: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class BlocksFreed(Event):
    """The last reference to these blocks was dropped; `num_cached` of them keep reusable content."""

    num_blocks: int
    num_cached: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class BlocksShared(Event):
    """Blocks gained a reference; `num_revived` of them were idle in the free queue."""

    num_blocks: int
    num_revived: int
    max_ref_count: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class AllocationFailed(Event):
    """A call was refused for lack of blocks."""

    needed: int
    free: int
    evictable: int


@dataclass(frozen=True, slots=True)
class BlocksRegistered(Event):
    """Full blocks entered the prefix cache."""

    num_blocks: int


@dataclass(frozen=True, slots=True)
class BlocksUnregistered(Event):
    """Blocks left the prefix cache for a reason other than eviction: overwritten, orphaned or reset."""

    num_blocks: int


@dataclass(frozen=True, slots=True)
class PrefixLookup(Event):
    """A prompt was looked up: `num_blocks` were eligible, the first `num_hit_blocks` of them hit."""

    num_tokens: int
    num_blocks: int
    num_hit_blocks: int
    num_hit_tokens: int


@dataclass(frozen=True, slots=True)
class BlocksCopied(Event):
    """Copy-on-write; `at_fork` tells an eager copy from one that a write asked for."""

    num_blocks: int
    at_fork: bool


@dataclass(frozen=True, slots=True)
class SequenceAdmitted(Event):
    """A sequence became live."""

    seq_id: int
    num_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True, slots=True)
class TokensAppended(Event):
    """Tokens were written behind live sequences; `num_shared_writes` writers found a shared block."""

    num_sequences: int
    num_tokens: int
    num_shared_writes: int


@dataclass(frozen=True, slots=True)
class StepBooked(Event):
    """The bookkeeping of one decode step (`append_batch`) is done."""

    batch_size: int
    num_new_blocks: int
    num_copies: int
    num_free: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class SequenceForked(Event):
    """A child became live that shares its parent's blocks."""

    parent_id: int
    child_id: int
    num_shared_blocks: int


@dataclass(frozen=True, slots=True)
class SequenceTruncated(Event):
    """A sequence was cut back, as speculative decoding does."""

    seq_id: int
    num_tokens: int
    num_dropped_tokens: int


@dataclass(frozen=True, slots=True)
class SequenceReleased(Event):
    """A sequence ended; `deferred` if its blocks wait for a step that reads them."""

    seq_id: int
    num_blocks: int
    deferred: bool


@dataclass(frozen=True, slots=True)
class RequestQueued(Event):
    """A request came, and waits."""

    request_id: int | str
    num_prompt_tokens: int
    num_waiting: int


@dataclass(frozen=True, slots=True)
class RequestStarted(Event):
    """A request got its first blocks, or got some again: `is_resumed`."""

    request_id: int | str
    num_tokens: int
    num_cached_tokens: int
    wait_ns: int
    is_resumed: bool


@dataclass(frozen=True, slots=True)
class RequestHeld(Event):
    """A request was looked at and not admitted, with the reason. Only told where somebody explains."""

    request_id: int | str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestPromoted(Event):
    """A request goes first from now on, after waits of `wait_ns` or `num_preemptions` preemptions."""

    request_id: int | str
    wait_ns: int
    num_preemptions: int


@dataclass(frozen=True, slots=True)
class BatchLimited(Event):
    """The adaptive limit of sequences that run has fallen."""

    old_limit: int
    new_limit: int


@dataclass(frozen=True, slots=True)
class RequestPreempted(Event):
    """A request lost its blocks: `num_free_before` blocks were free, `num_free_after` are.

    `needed_by` is the request that needed them, None if it was a whole decode batch, or if a step failed;
    `reason` says what for, and why it was this one. `num_lost_tokens` of it were computed.
    """

    request_id: int | str
    needed_by: int | str | None
    reason: str
    num_free_before: int
    num_free_after: int
    num_lost_tokens: int


@dataclass(frozen=True, slots=True)
class RequestFinished(Event):
    """A request ended, `age_ns` after it came; `reason` is that of its last sequence."""

    request_id: int | str
    reason: str
    num_output_tokens: int
    age_ns: int


@dataclass(frozen=True, slots=True)
class StepScheduled(Event):
    """It is settled what the next step computes.

    `batch_size` sequences take part, `num_decodes` of them with one token; the others compute
    `num_prefill_tokens`. `num_running` and `num_waiting` are requests; the first in line has waited for
    `longest_wait_ns`.
    """

    now_ns: int
    batch_size: int
    num_decodes: int
    num_prefill_tokens: int
    num_copies: int
    num_preempted: int
    num_running: int
    num_waiting: int
    longest_wait_ns: int


@dataclass(frozen=True, slots=True)
class StepCommitted(Event):
    """A step is done, `duration_ns` after it was scheduled.

    `first_token_ns` has, for each request whose first token came, the time since its arrival; `gaps_ns`, for
    each other sampled token, the time since the one before it (int64 vectors).
    """

    now_ns: int
    duration_ns: int
    num_sampled: int
    first_token_ns: "Int64s"
    gaps_ns: "Int64s"


Sink = Callable[[Event], object]


class EventStream:
    """Fans events out to the attached sinks.

    Attributes:
        emit: what to call with an event, or None while no sink is attached. Sinks run in the order in which
            they were attached. A sink must not raise: it is called in the middle of an operation, and what it
            raises reaches the caller with the rest undone.
    """

    __slots__ = ("_sinks", "emit")

    def __init__(self) -> None:
        self._sinks: tuple[Sink, ...] = ()
        self.emit: Sink | None = None

    def attach(self, sink: Sink) -> None:
        """Start sending events to `sink`; a sink that is attached already is not attached twice."""
        if sink not in self._sinks:
            self._set((*self._sinks, sink))

    def detach(self, sink: Sink) -> None:
        """Stop sending events to `sink`; nothing happens if it is not attached."""
        self._set(tuple(s for s in self._sinks if s != sink))

    def _set(self, sinks: tuple[Sink, ...]) -> None:
        self._sinks = sinks
        self.emit = None if not sinks else sinks[0] if len(sinks) == 1 else self._fan_out

    def _fan_out(self, event: Event) -> None:
        for sink in self._sinks:
            sink(event)
