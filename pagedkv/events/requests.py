"""What the scheduler tells."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedkv.events.stream import Event

if TYPE_CHECKING:
    from pagedkv.block_ids import Int64s

__all__ = [
    "BatchLimited",
    "RequestFinished",
    "RequestHeld",
    "RequestPreempted",
    "RequestPromoted",
    "RequestQueued",
    "RequestStarted",
    "StepCommitted",
    "StepCompiled",
    "StepScheduled",
]


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
    `longest_wait_ns`. The step reads the KV of `num_kv_tokens`, the whole context of each sequence. Of an
    empty one, `awaits_pages` says that pages are on their way for which requests wait.
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
    num_kv_tokens: int = 0
    awaits_pages: bool = False


@dataclass(frozen=True, slots=True)
class StepCompiled(Event):
    """`num_kernels` were compiled in a step, which waited for that for `duration_ns`."""

    num_kernels: int
    duration_ns: int


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
