"""Log lines about steps and requests."""

import logging
from functools import singledispatchmethod

from pagedkv import events as ev

__all__ = ["SchedulerLog"]

COLLAPSE_RATIO = 0.5
"""Share of the moving average below which a batch, with requests waiting, counts as reduced."""
COLLAPSE_STEPS = 8
"""Steps after which a reduced batch counts as collapsed."""
_log = logging.getLogger("pagedkv")


class SchedulerLog:
    """A sink that turns the events of one scheduler into log lines.

    Args:
        average_steps: steps that the moving average of the batch size reaches back.
    """

    def __init__(self, average_steps: int = 32) -> None:
        self._average_steps = average_steps
        self._average = 0.0
        self._num_reduced = 0  # steps in a row
        self._reduced_ns = 0  # and what they took

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
        if not is_reduced:
            self._tell_end(event)
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
    def _(self, event: ev.StepCommitted) -> None:
        if self._num_reduced:
            self._reduced_ns += event.duration_ns

    def _tell_end(self, event: ev.StepScheduled) -> None:
        """Say what a collapse took, if one ends here."""
        if self._num_reduced >= COLLAPSE_STEPS:
            _log.info(
                "[Scheduler] Batch size is %d again, after %d steps and %.1f ms",
                event.batch_size,
                self._num_reduced,
                self._reduced_ns / 1e6,
            )
        self._reduced_ns = 0

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
