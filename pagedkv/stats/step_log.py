"""What each step was like: events folded into columns, one row a step."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from pagedkv import events as ev
from pagedkv.config import CacheConfig, OffloadConfig, SchedulerConfig
from pagedkv.stats.window import StatsWindow

__all__ = ["COLUMNS", "LoggedCache", "StepLog"]

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "now_ns": "when the step was committed",
        "duration_ns": "from scheduling it to committing it",
        "sync_ns": "of that, time in which it stood still for copies between device and host",
        "compile_ns": "of that, time in which kernels were compiled",
        "between_ns": "from committing the step before to scheduling this one",
        "page_idle_ns": "of that, time in which nothing could run, and pages were awaited",
        "batch_size": "sequences that took part",
        "num_decodes": "those of them with one token",
        "num_prefill_tokens": "tokens of the others",
        "num_sampled": "tokens that came of it",
        "num_kv_tokens": "tokens whose KV it read: the context of every sequence",
        "num_running": "requests with blocks, when it was scheduled",
        "num_waiting": "requests without, likewise",
        "longest_wait_ns": "wait of the first in line, likewise",
        "num_preempted": "requests that lost their blocks since the step before",
        "num_lost_tokens": "computed tokens that they lost",
        "num_free_blocks": "blocks that nobody had, when it was scheduled",
        "num_sequences": "sequences with blocks, at the last look",
        "fragmentation_ppm": "of a million slots in use, those that hold no token, at the last look",
        "num_lookup_blocks": "blocks that prompts looked for in the prefix cache",
        "num_hit_blocks": "those of them that they found",
        "num_evicted": "blocks that lost cached content",
        "num_written_tokens": "tokens that were written behind live sequences, those of prompts left out",
        "num_shared_writes": "writers that found a shared block",
        "num_copies": "blocks copied, at a write or at a fork",
        "num_forks": "sequences that forked off others",
        "max_ref_count": "most references that a block gained; 0 if none gained any",
        "num_page_outs": "evicted blocks that were kept as pages",
        "num_dropped": "pages that gave way before anybody asked for them",
        "num_page_ins": "pages that were asked for",
        "num_again": "those of them that had been on the device a short time before",
        "num_in_time": "pages that were there when the turn of their request came",
        "num_late": "pages that a request waited for",
        "num_failed_pages": "pages that did not come",
        "awaited_ns": "for how long requests waited for pages in their turn",
        "page_in_ns": "longest of the page-ins that ended, as long as pages were certainly missing",
        "page_in_expected_ns": "what that one takes by the measured bandwidths",
        "link_ns": "what the pages that moved between device and host take by the measured bandwidths",
        "file_ns": "likewise, between host and file",
        "num_throttled": "times that copies began to be held back",
    }
)
"""What is known of a step, by name. What happens between two steps belongs to the later one."""

_ROWS = 256


class LoggedCache(Protocol):
    """What a log reads of a cache."""

    @property
    def config(self) -> CacheConfig:
        """Its settings."""

    @property
    def num_sequences(self) -> int:
        """Live sequences."""

    def internal_fragmentation(self) -> float:
        """Share of the slots in use that hold nothing."""


class StepLog:
    """A sink that writes a row for each committed step.

    Attach it to `Scheduler.events`. It costs about as many microseconds a step as there are events.

    Args:
        cache: the cache below the scheduler.
        scheduler: settings of the scheduler, for `window`.
        offload: settings of the tiers, for `window`.
        max_steps: rows that are kept, the oldest giving way; None for all.
        steps_between_looks: how often `fragmentation_ppm` and `num_sequences` are looked at, since that
            costs O(sequences).
    """

    def __init__(
        self,
        cache: LoggedCache,
        *,
        scheduler: SchedulerConfig | None = None,
        offload: OffloadConfig | None = None,
        max_steps: int | None = None,
        steps_between_looks: int = 16,
    ) -> None:
        self._cache, self._scheduler, self._offload = cache, scheduler, offload
        self._max_steps, self._steps_between_looks = max_steps, steps_between_looks
        self._rows = np.zeros((_ROWS, len(COLUMNS)), np.int64)
        self._first = 0  # row of the oldest step that is kept
        self._stop = 0
        self._num_steps = 0
        self._committed_ns: int | None = None
        self._num_free = cache.config.num_blocks
        self._awaiting_since_ns: int | None = None
        self._looked = (0, 0)
        self._row: dict[str, int] = dict.fromkeys(COLUMNS, 0)
        self._folds: dict[type[ev.Event], Callable[[Any], None]] = {
            ev.BlocksAllocated: self._allocated,
            ev.BlocksFreed: self._freed,
            ev.BlocksShared: self._shared,
            ev.PrefixLookup: self._looked_up,
            ev.BlocksCopied: self._copied,
            ev.TokensAppended: self._appended,
            ev.SequenceForked: self._forked,
            ev.RequestPreempted: self._preempted,
            ev.PagesStored: self._stored,
            ev.PageInStarted: self._page_in_started,
            ev.PageInEnded: self._page_in_ended,
            ev.RequestAwaitedPages: self._awaited,
            ev.OffloadThrottled: self._throttled,
            ev.PagesDropped: self._dropped,
            ev.PagesMoved: self._moved,
            ev.StreamAwaited: self._stream_awaited,
            ev.StepCompiled: self._compiled,
            ev.StepScheduled: self._scheduled,
            ev.StepCommitted: self._stepped,
        }

    def __call__(self, event: ev.Event) -> None:
        """Fold one event; kinds that say nothing about steps are ignored."""
        if (fold := self._folds.get(type(event))) is not None:
            fold(event)

    def __len__(self) -> int:
        """Steps that are kept."""
        return self._stop - self._first

    @property
    def num_steps(self) -> int:
        """Steps that were committed, those included that are not kept any more."""
        return self._num_steps

    def window(self, num_steps: int | None = None) -> StatsWindow:
        """The last so many steps; all that are kept, if nobody says. It does not change any more."""
        start = self._first if num_steps is None else max(self._first, self._stop - num_steps)
        columns = self._rows[start : self._stop].T.copy()
        return StatsWindow(
            cache=self._cache.config,
            scheduler=self._scheduler,
            offload=self._offload,
            columns=dict(zip(COLUMNS, columns, strict=True)),
        )

    # ---- what happens before and in a step

    def _allocated(self, e: ev.BlocksAllocated) -> None:
        self._num_free = e.num_free
        self._row["num_evicted"] += e.num_evicted

    def _freed(self, e: ev.BlocksFreed) -> None:
        self._num_free = e.num_free

    def _shared(self, e: ev.BlocksShared) -> None:
        self._num_free = e.num_free
        self._most("max_ref_count", e.max_ref_count)

    def _looked_up(self, e: ev.PrefixLookup) -> None:
        self._row["num_lookup_blocks"] += e.num_blocks
        self._row["num_hit_blocks"] += e.num_hit_blocks

    def _copied(self, e: ev.BlocksCopied) -> None:
        self._row["num_copies"] += e.num_blocks

    def _appended(self, e: ev.TokensAppended) -> None:
        self._row["num_written_tokens"] += e.num_tokens
        self._row["num_shared_writes"] += e.num_shared_writes

    def _forked(self, _event: ev.SequenceForked) -> None:
        self._row["num_forks"] += 1

    def _preempted(self, e: ev.RequestPreempted) -> None:
        self._row["num_preempted"] += 1
        self._row["num_lost_tokens"] += e.num_lost_tokens

    def _stored(self, e: ev.PagesStored) -> None:
        self._row["num_page_outs"] += e.num_pages
        self._row["link_ns"] += e.copy_ns

    def _dropped(self, e: ev.PagesDropped) -> None:
        self._row["num_dropped"] += e.num_pages

    def _moved(self, e: ev.PagesMoved) -> None:
        self._row["link_ns" if e.route == "page_in" else "file_ns"] += e.copy_ns

    def _page_in_started(self, e: ev.PageInStarted) -> None:
        self._row["num_page_ins"] += e.num_pages
        self._row["num_again"] += e.num_again

    def _page_in_ended(self, e: ev.PageInEnded) -> None:
        self._row["num_failed_pages"] += e.num_failed
        if (certain_ns := e.certain_ns) > self._row["page_in_ns"]:
            self._row["page_in_ns"], self._row["page_in_expected_ns"] = certain_ns, e.expected_ns

    def _awaited(self, e: ev.RequestAwaitedPages) -> None:
        is_late = e.wait_ns > 0 or e.gave_up
        self._row["num_late" if is_late else "num_in_time"] += e.num_pages
        self._row["awaited_ns"] += e.wait_ns

    def _throttled(self, _event: ev.OffloadThrottled) -> None:
        self._row["num_throttled"] += 1

    def _stream_awaited(self, e: ev.StreamAwaited) -> None:
        self._row["sync_ns"] += e.wait_ns

    def _compiled(self, e: ev.StepCompiled) -> None:
        self._row["compile_ns"] += e.duration_ns

    # ---- steps

    def _scheduled(self, e: ev.StepScheduled) -> None:
        if self._awaiting_since_ns is not None:
            self._row["page_idle_ns"] += e.now_ns - self._awaiting_since_ns
            self._awaiting_since_ns = None
        if not e.batch_size:  # what has happened belongs to the next step
            self._row["sync_ns"] = 0  # but no step stood still
            self._awaiting_since_ns = e.now_ns if e.awaits_pages else None
            return
        if self._num_steps % self._steps_between_looks == 0:
            wasted_ppm = int(self._cache.internal_fragmentation() * 1_000_000)
            self._looked = (self._cache.num_sequences, wasted_ppm)
        self._row.update(
            between_ns=0 if self._committed_ns is None else e.now_ns - self._committed_ns,
            batch_size=e.batch_size,
            num_decodes=e.num_decodes,
            num_prefill_tokens=e.num_prefill_tokens,
            num_kv_tokens=e.num_kv_tokens,
            num_running=e.num_running,
            num_waiting=e.num_waiting,
            longest_wait_ns=e.longest_wait_ns,
            num_free_blocks=self._num_free,
            num_sequences=self._looked[0],
            fragmentation_ppm=self._looked[1],
        )

    def _stepped(self, e: ev.StepCommitted) -> None:
        self._committed_ns = e.now_ns
        self._row.update(now_ns=e.now_ns, duration_ns=e.duration_ns, num_sampled=e.num_sampled)
        row = self._next_row()
        self._rows[row] = tuple(self._row.values())
        self._num_steps += 1
        self._row = dict.fromkeys(COLUMNS, 0)

    def _next_row(self) -> int:
        """A row behind all others; the oldest has given way if there were as many as are kept."""
        if self._max_steps is not None and self._stop - self._first == self._max_steps:
            self._first += 1
        if self._stop == len(self._rows):
            kept = self._rows[self._first : self._stop].copy()
            if 2 * len(kept) > len(self._rows):
                self._rows = np.zeros((2 * len(self._rows), len(COLUMNS)), np.int64)
            self._rows[: len(kept)] = kept
            self._first, self._stop = 0, len(kept)
        self._stop += 1
        return self._stop - 1

    def _most(self, name: str, value: int) -> None:
        self._row[name] = max(self._row[name], value)
