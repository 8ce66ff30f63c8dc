"""Who runs next: continuous batching over a `BlockManager`, on any clock."""

from pagedkv.scheduler.admission import Limits
from pagedkv.scheduler.scheduler import Scheduler
from pagedkv.scheduler.state import FinishReason, RequestState, SequenceState, Status
from pagedkv.scheduler.step import Chunk, Decodes, ScheduledStep, StepResult

__all__ = [
    "Chunk",
    "Decodes",
    "FinishReason",
    "Limits",
    "RequestState",
    "ScheduledStep",
    "Scheduler",
    "SequenceState",
    "Status",
    "StepResult",
]
