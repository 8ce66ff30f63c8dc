"""Log lines that name what a cache does, folded from its events.

They are written for people and for tools that read server logs, so their wording is fixed:

    [Allocator] Free blocks: 123 / 3072                debug, when the number has changed
    [Allocator] Fragmentation: 0.42                    debug, when the number has changed
    [Allocator] Fragmentation > 0.4                    warning, when it rises above that
    [KV] Refcount over 3                               debug, when a block gains its fourth reference or more
    [KV] Copy-on-write: 64 copies this step            debug, for a decode step that copies
    [Scheduler] Batch size reduced: 64 → 8             info, when a step falls below half of the batch's
                                                       moving average, with requests waiting
    [Scheduler] Batch collapse detected                warning, when it has stayed there for 8 steps
    [Offload] Page-in latency > 20ms                   warning, for each page-in that takes longer
    [Offload] Page-in stall                            warning, for each that takes 3 times what its bytes
                                                       need by the measured bandwidths, and 2 ms
    [Offload] Throttling IO thread                     warning, when copies begin to be held back
    [GPU Stream Sync] wait_event                       debug, when a step stands still for copies between
                                                       device and host
    [Engine] Step 143 took 112.0 ms (p50 9.1 ms)       warning, when it takes 3 times the median of the last
                                                       like steps, and 1 ms; at least 16 have to be known.
                                                       Like: sequences, prompt tokens and tokens attended to
                                                       are within a factor of two. Steps count from 1

What the scheduler decides is told with its reason, in words that may change: requests that start, that end
and that are held at debug, those that lose their blocks at info.

Set PAGEDKV_LOG_LEVEL=debug (or info, warning, error) and every cache and scheduler made from then on writes
them, to the handlers of the application or, where there are none, to stderr. Without it nothing is attached.
"""

from pagedkv.logs.asking import ENV_VAR, attach_if_asked, attach_scheduler_if_asked
from pagedkv.logs.cache import CacheLog
from pagedkv.logs.offload import OffloadLog, is_stall
from pagedkv.logs.scheduler import SchedulerLog
from pagedkv.logs.steps import StepTimeLog

__all__ = [
    "ENV_VAR",
    "CacheLog",
    "OffloadLog",
    "SchedulerLog",
    "StepTimeLog",
    "attach_if_asked",
    "attach_scheduler_if_asked",
    "is_stall",
]
