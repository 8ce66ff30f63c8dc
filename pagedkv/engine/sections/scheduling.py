"""What waits and why, what the last steps were, and how counts have moved."""

from collections.abc import Callable
from typing import Any

from pagedkv.engine.history import RecentStep
from pagedkv.engine.sections.subject import Subject
from pagedkv.scheduler import RequestState

__all__ = ["history", "scheduler"]

_MOST_LISTED = 256
_NS_PER_MS = 1e6
_NOT_LOOKED_AT = "its turn has not come: those before it begin first"
_BEHIND = "those before it begin first; when it was last looked at: "


def scheduler(subject: Subject) -> Callable[[], dict[str, Any]]:
    """The queue, its limits, the last steps."""
    chosen, now_ns = subject.scheduler, subject.now_ns
    limits, steps, config = chosen.limits, subject.history.steps(), chosen.config
    queue = [_copied(state) for state in chosen.waiting(_MOST_LISTED)]
    num_not_listed = chosen.num_waiting - len(queue)

    def show() -> dict[str, Any]:
        sizes = [step.scheduled.batch_size for step in steps[-config.batch_average_steps :]]
        opens_ns = limits.opens_ns
        return {
            "policy": config.policy,
            "limits": {
                "max_running": config.max_running,
                "max_batch_tokens": config.max_batch_tokens,
                "num_sequences": limits.num_sequences,
                "batch_average": limits.batch_average,
                "num_watermark_blocks": limits.num_watermark_blocks,
                "num_promised_blocks": limits.num_promised_blocks,
                "opens_in_ms": None if opens_ns is None else max(0, opens_ns - now_ns) / _NS_PER_MS,
            },
            "mean_recent_batch": sum(sizes) / len(sizes) if sizes else 0.0,
            "queue": [_shown(each, now_ns, limits.num_looks) for each in queue],
            "num_not_listed": num_not_listed,
            "steps": [_step(each) for each in steps],
        }

    return show


def history(subject: Subject) -> Callable[[], list[dict[str, int]]]:
    """Where counts stood each second."""
    marks = subject.history.marks()
    return lambda: [{"time_ns": mark.time_ns, **mark.counts} for mark in marks]


def _copied(state: RequestState) -> tuple[Any, ...]:
    request = state.request
    return (
        request.request_id,
        request.priority,
        state.queued_ns,
        request.prompt.num_tokens,
        state.width,
        state.num_preemptions,
        state.num_overtakes,
        state.is_promoted,
        state.why_held,
        state.looked_at,
    )


def _shown(copied: tuple[Any, ...], now_ns: int, num_looks: int) -> dict[str, Any]:
    request_id, priority, queued_ns, num_tokens, width, preemptions, overtakes, promoted, why, look = copied
    if why is None:
        why = _NOT_LOOKED_AT
    elif look != num_looks:
        why = _BEHIND + why
    return {
        "request_id": request_id,
        "priority": priority,
        "waiting_ms": (now_ns - queued_ns) / _NS_PER_MS,
        "num_prompt_tokens": num_tokens,
        "num_sequences": width,
        "num_preemptions": preemptions,
        "num_overtakes": overtakes,
        "is_promoted": promoted,
        "why_held": why,
    }


def _step(step: RecentStep) -> dict[str, Any]:
    scheduled = step.scheduled
    return {
        "time_ns": scheduled.now_ns,
        "duration_ms": step.duration_ns / _NS_PER_MS,
        "batch_size": scheduled.batch_size,
        "num_decodes": scheduled.num_decodes,
        "num_prefill_tokens": scheduled.num_prefill_tokens,
        "num_sampled": step.num_sampled,
        "num_copies": scheduled.num_copies,
        "num_preempted": scheduled.num_preempted,
        "num_running": scheduled.num_running,
        "num_waiting": scheduled.num_waiting,
    }
