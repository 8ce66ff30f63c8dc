"""Log lines about blocks."""

import logging
from functools import singledispatchmethod
from typing import Protocol

from pagedkv import events as ev
from pagedkv.config import CacheConfig

__all__ = ["CacheLog", "Observable"]

FRAGMENTATION_ALARM = 0.4
REF_COUNT_ALARM = 3
_log = logging.getLogger("pagedkv")


class Observable(Protocol):
    """What logs read of a cache."""

    @property
    def events(self) -> ev.EventStream:
        """The cache's event stream."""

    @property
    def config(self) -> CacheConfig:
        """Its settings."""

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
        self._num_copied = self._num_written = 0  # blocks and tokens, since the copies before

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
    def _(self, event: ev.BlocksCopied) -> None:
        self._num_copied += event.num_blocks

    @_fold.register
    def _(self, event: ev.TokensAppended) -> None:
        self._num_written += event.num_tokens

    @_fold.register
    def _(self, event: ev.StepBooked) -> None:
        if event.num_copies:
            _log.debug("[KV] Copy-on-write: %d copies this step", event.num_copies)
        if self._num_copied:
            self._tell_copies()
        self._tell_pool()

    @_fold.register(ev.SequenceAdmitted)
    @_fold.register(ev.SequenceForked)
    @_fold.register(ev.SequenceTruncated)
    @_fold.register(ev.SequenceReleased)
    def _(self, _event: ev.Event) -> None:
        self._tell_pool()

    def _tell_copies(self) -> None:
        _log.debug(
            "[KV] Copied %d blocks of %d tokens; %d tokens were written since the copies before",
            self._num_copied,
            self._cache.config.block_size,
            self._num_written,
        )
        self._num_copied = self._num_written = 0

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
