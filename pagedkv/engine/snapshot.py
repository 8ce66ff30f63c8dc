"""The state of an engine as plain values, for people and tools that look at it from outside."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pagedkv.engine import sections as parts
from pagedkv.engine.sections import Section, Subject, plain
from pagedkv.engine.stats import StatsFold
from pagedkv.errors import InvalidRequest
from pagedkv.live import SCHEMA_VERSION, SECTIONS, USUAL_SECTIONS
from pagedkv.scheduler import Scheduler

__all__ = ["copied"]

_MADE: dict[str, Section] = {
    "pool": parts.pool,
    "usage": parts.usage,
    "offload": parts.offload,
    "requests": parts.requests,
    "scheduler": parts.scheduler,
    "prefix_cache": parts.prefix_cache,
    "history": parts.history,
    "device_memory": parts.device_memory,
    "blocks": parts.blocks,
    "tables": parts.tables,
}


def copied(
    scheduler: Scheduler, stats: StatsFold, sections: Sequence[str] | None = None
) -> Callable[[], dict[str, Any]]:
    """Copy what a scheduler and its cache hold now; changes nothing.

    Args:
        scheduler: the scheduler.
        stats: what was counted of it.
        sections: names of `SECTIONS`; None for the usual ones.

    Returns:
        What makes a snapshot of the copy, on any thread. Only what JSON knows is in it. docs/engine.md
        describes it field by field.

    Raises:
        InvalidRequest: there is no section of that name.
    """
    chosen = USUAL_SECTIONS if sections is None else tuple(sections)
    if unknown := [each for each in chosen if each not in SECTIONS]:
        raise InvalidRequest(f"there is no section {unknown[0]!r:.40}; there are {', '.join(SECTIONS)}")
    subject, step = Subject(scheduler, stats.history), scheduler.in_flight
    base = {
        "schema_version": SCHEMA_VERSION,
        "time_ns": subject.now_ns,
        "num_waiting": scheduler.num_waiting,
        "num_running": scheduler.num_running,
        "step_in_flight": None if step is None else step.number,
    }
    shows = {name: _copied(name, subject, stats) for name in SECTIONS if name in chosen}
    return lambda: base | {name: show() for name, show in shows.items()}


def _copied(name: str, subject: Subject, stats: StatsFold) -> Callable[[], Any]:
    if name == "config":
        return lambda: _config(subject.scheduler)
    if name == "stats":
        measured = stats.copied(subject.scheduler)
        return lambda: plain(asdict(measured()))
    return _MADE[name](subject)


def _config(scheduler: Scheduler) -> dict[str, Any]:
    config = scheduler.config
    return {
        "cache": asdict(scheduler.cache.config),
        "scheduler": asdict(config) | {"length_buckets": list(config.length_buckets)},
    }
