"""What says how bad a pitfall is: exact integers, the less the better."""

from pagedkv.pitfalls import BatchCollapseThresholds
from pagedkv.pitfalls.batch_collapse import collapsed_steps
from pagedkv.scenarios.scenario import Metric, Outcome

__all__ = [
    "AMPLIFICATION",
    "BUSY_TIME",
    "COLLAPSED_TIME",
    "COPIES",
    "FRAGMENTATION",
    "LONGEST_WAIT",
    "PREEMPTIONS",
    "PROMPT_TOKENS",
    "SHARED_WRITES",
    "SLOTS",
    "SLOWEST_WAIT",
    "STEPS",
    "USUAL_WAIT",
]

_NS_PER_US = 1000
_PER_MILLION = 10**6


def _fragmentation(outcome: Outcome) -> int:
    window = outcome.window
    in_use = window.cache.num_blocks - window["num_free_blocks"]
    return int((in_use * window["fragmentation_ppm"]).sum()) // max(1, int(in_use.sum()))


def _slots(outcome: Outcome) -> int:
    """Sequences are counted at looks; over many steps that evens out."""
    window = outcome.window
    in_use = int((window.cache.num_blocks - window["num_free_blocks"]).sum()) * window.cache.block_size
    return in_use // max(1, window.total("num_sequences"))


def _copies(outcome: Outcome) -> int:
    return 1000 * outcome.window.total("num_copies") // max(1, outcome.result.generated_tokens)


def _amplification(outcome: Outcome) -> int:
    window = outcome.window
    num_slots = window.total("num_copies") * window.cache.block_size
    return 1000 * num_slots // max(1, window.total("num_written_tokens"))


def _shared_writes(outcome: Outcome) -> int:
    window = outcome.window
    return _PER_MILLION * window.total("num_shared_writes") // max(1, window.total("num_written_tokens"))


def _collapsed(outcome: Outcome) -> int:
    duration = outcome.window["duration_ns"]
    collapsed = int(duration[collapsed_steps(outcome.window, BatchCollapseThresholds())].sum())
    return _PER_MILLION * collapsed // max(1, int(duration.sum()))


def _longest_wait(outcome: Outcome) -> int:
    waits = (each.first_scheduled_ns - each.arrival_ns for each in outcome.result.timelines)
    return max(waits, default=0) // _NS_PER_US


FRAGMENTATION = Metric("fragmentation_ppm", _fragmentation)
"""Of a million slots of blocks in use, those that hold no token; over all steps."""
SLOTS = Metric("slots_per_sequence", _slots)
"""Slots of blocks in use for each live sequence; what sequences share counts once."""
PREEMPTIONS = Metric("preemptions", lambda outcome: outcome.result.preemptions)
COPIES = Metric("copies_per_1000_tokens", _copies)
"""Blocks copied for 1000 tokens that requests were answered with."""
AMPLIFICATION = Metric("slots_copied_per_1000_written", _amplification)
"""Slots copied for 1000 tokens that were written, those of beams that were given up included."""
SHARED_WRITES = Metric("shared_writes_ppm", _shared_writes)
"""Of a million writes, those that found a shared block."""
PROMPT_TOKENS = Metric("prefill_tokens", lambda outcome: outcome.result.prefill_tokens)
"""Tokens computed in prompts."""
STEPS = Metric("steps", lambda outcome: outcome.result.steps)
BUSY_TIME = Metric("busy_us", lambda outcome: outcome.result.busy_ns // _NS_PER_US)
"""Time in steps."""
COLLAPSED_TIME = Metric("collapsed_ppm", _collapsed)
"""Of a million parts of the time in steps, those in collapsed batches."""
USUAL_WAIT = Metric("queue_wait_p50_us", lambda outcome: outcome.result.queue_wait_p50_ns // _NS_PER_US)
SLOWEST_WAIT = Metric("queue_wait_p99_us", lambda outcome: outcome.result.queue_wait_p99_ns // _NS_PER_US)
LONGEST_WAIT = Metric("queue_wait_max_us", _longest_wait)
"""Of the request that waited longest: under a policy that is not fair, what that costs."""
