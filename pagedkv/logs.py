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

What the scheduler decides is told with its reason, in words that may change: requests that start, that end
and that are held at debug, those that lose their blocks at info.

Set PAGEDKV_LOG_LEVEL=debug (or info, warning, error) and every cache and scheduler made from then on writes
them, to the handlers of the application or, where there are none, to stderr. Without it nothing is attached.
"""

import logging
import os
import sys
from collections.abc import Mapping
from functools import singledispatchmethod
from typing import Protocol, TextIO

from pagedkv import events as ev
from pagedkv.errors import ConfigError

__all__ = ["ENV_VAR", "CacheLog", "SchedulerLog", "attach_if_asked", "attach_scheduler_if_asked"]

ENV_VAR = "PAGEDKV_LOG_LEVEL"
FRAGMENTATION_ALARM = 0.4
REF_COUNT_ALARM = 3
COLLAPSE_RATIO = 0.5
"""Share of the moving average below which a batch, with requests waiting, counts as reduced."""
COLLAPSE_STEPS = 8
"""Steps after which a reduced batch counts as collapsed."""
_LEVELS = ("debug", "info", "warning", "error", "critical")
_log = logging.getLogger("pagedkv")


class Observable(Protocol):
    """What logs read of a cache."""

    @property
    def events(self) -> ev.EventStream:
        """The cache's event stream."""

    def internal_fragmentation(self) -> float:
        """Share of the slots in use that hold nothing."""


class CacheLog:
    """A sink that turns the events of one cache into log lines."""

    def __init__(self, cache: Observable) -> None:
        self._cache = cache
        self._free: tuple[int, int] | None = None
        self._told_free: tuple[int, int] | None = None
        self._told_fragmentation = "0.00"
        self._alarmed = False

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._fold(event)

    @singledispatchmethod
    def _fold(self, event: ev.Event) -> None:
        """Most kinds of event say nothing by themselves."""

    @_fold.register(ev.BlocksAllocated)
    @_fold.register(ev.BlocksFreed)
    def _(self, event: ev.BlocksAllocated | ev.BlocksFreed) -> None:
        self._free = (event.num_free, event.pool_size)

    @_fold.register
    def _(self, event: ev.BlocksShared) -> None:
        self._free = (event.num_free, event.pool_size)
        if event.max_ref_count > REF_COUNT_ALARM:
            _log.debug("[KV] Refcount over %d", REF_COUNT_ALARM)

    @_fold.register
    def _(self, event: ev.StepBooked) -> None:
        if event.num_copies:
            _log.debug("[KV] Copy-on-write: %d copies this step", event.num_copies)
        self._tell_pool()

    @_fold.register(ev.SequenceAdmitted)
    @_fold.register(ev.SequenceForked)
    @_fold.register(ev.SequenceTruncated)
    @_fold.register(ev.SequenceReleased)
    def _(self, _event: ev.Event) -> None:
        self._tell_pool()

    def _tell_pool(self) -> None:
        if self._free is not None and self._free != self._told_free:
            self._told_free = self._free
            _log.debug("[Allocator] Free blocks: %d / %d", *self._free)
        ratio = self._cache.internal_fragmentation()
        if (text := f"{ratio:.2f}") != self._told_fragmentation:
            self._told_fragmentation = text
            _log.debug("[Allocator] Fragmentation: %s", text)
        if ratio > FRAGMENTATION_ALARM and not self._alarmed:
            _log.warning("[Allocator] Fragmentation > %s", FRAGMENTATION_ALARM)
        self._alarmed = ratio > FRAGMENTATION_ALARM


class SchedulerLog:
    """A sink that turns the events of one scheduler into log lines.

    Args:
        average_steps: steps that the moving average of the batch size reaches back.
    """

    def __init__(self, average_steps: int = 32) -> None:
        self._average_steps = average_steps
        self._average = 0.0
        self._num_reduced = 0  # steps in a row

    def __call__(self, event: ev.Event) -> None:
        """Fold one event."""
        self._fold(event)

    @singledispatchmethod
    def _fold(self, event: ev.Event) -> None:
        """Most kinds of event say nothing about a scheduler."""

    @_fold.register
    def _(self, event: ev.StepScheduled) -> None:
        if not event.batch_size:  # nothing ran, on purpose or for want of work
            return
        is_reduced = event.num_waiting > 0 and event.batch_size < COLLAPSE_RATIO * self._average
        self._num_reduced = self._num_reduced + 1 if is_reduced else 0
        if self._num_reduced == 1:
            _log.info(
                "[Scheduler] Batch size reduced: %d \N{RIGHTWARDS ARROW} %d",
                round(self._average),
                event.batch_size,
            )
        if self._num_reduced == COLLAPSE_STEPS:
            _log.warning("[Scheduler] Batch collapse detected")
        if not is_reduced:  # a collapse is measured against what ran before it
            self._average += (event.batch_size - self._average) / self._average_steps

    @_fold.register
    def _(self, event: ev.RequestStarted) -> None:
        _log.debug(
            "[Scheduler] Request %s %s after %.1f ms: %d tokens, %d of them cached",
            event.request_id,
            "resumes" if event.is_resumed else "starts",
            event.wait_ns / 1e6,
            event.num_tokens,
            event.num_cached_tokens,
        )

    @_fold.register
    def _(self, event: ev.RequestHeld) -> None:
        _log.debug("[Scheduler] Request %s is held: %s", event.request_id, event.reason)

    @_fold.register
    def _(self, event: ev.RequestPromoted) -> None:
        _log.debug(
            "[Scheduler] Request %s goes first from now on: %.1f ms of waiting, %d preemptions",
            event.request_id,
            event.wait_ns / 1e6,
            event.num_preemptions,
        )

    @_fold.register
    def _(self, event: ev.BatchLimited) -> None:
        _log.debug(
            "[Scheduler] At most %d sequences run from now on, not %d: requests were preempted",
            event.new_limit,
            event.old_limit,
        )

    @_fold.register
    def _(self, event: ev.RequestPreempted) -> None:
        _log.info(
            "[Scheduler] Request %s is preempted for %s: %s; free blocks %d \N{RIGHTWARDS ARROW} %d, "
            "%d computed tokens lost",
            event.request_id,
            "the batch" if event.needed_by is None else f"request {event.needed_by}",
            event.reason,
            event.num_free_before,
            event.num_free_after,
            event.num_lost_tokens,
        )

    @_fold.register
    def _(self, event: ev.RequestFinished) -> None:
        _log.debug(
            "[Scheduler] Request %s ends (%s) after %.1f ms: %d tokens generated",
            event.request_id,
            event.reason,
            event.age_ns / 1e6,
            event.num_output_tokens,
        )


def attach_if_asked(cache: Observable, environ: Mapping[str, str] = os.environ) -> None:
    """Log what a cache does if PAGEDKV_LOG_LEVEL is set.

    Raises:
        ConfigError: it is set to something that is no level.
    """
    if _is_asked(environ):
        cache.events.attach(CacheLog(cache))


def attach_scheduler_if_asked(
    events: ev.EventStream, average_steps: int, environ: Mapping[str, str] = os.environ
) -> bool:
    """Log what a scheduler does if PAGEDKV_LOG_LEVEL is set; returns whether debug lines are written.

    Raises:
        ConfigError: it is set to something that is no level.
    """
    if not _is_asked(environ):
        return False
    events.attach(SchedulerLog(average_steps))
    return _log.isEnabledFor(logging.DEBUG)


def _is_asked(environ: Mapping[str, str]) -> bool:
    """Whether anything is to be logged; sets the logger up for it."""
    level = environ.get(ENV_VAR, "").lower()
    if not level:
        return False
    if level not in _LEVELS:
        raise ConfigError(f"{ENV_VAR} is {environ[ENV_VAR]!r}; it must be one of {', '.join(_LEVELS)}")
    if not _log.hasHandlers():
        _log.addHandler(_StderrHandler())
    _log.setLevel(level.upper())
    return _log.isEnabledFor(logging.WARNING)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time, bare lines."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """The base class sets the stream that it saw when it was made."""
