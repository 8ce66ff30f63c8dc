"""The counters of one test."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import index
from typing import Protocol

import pytest

from pagedkv.events import EventStream
from pagedkv.stats import Counters

__all__ = ["RECORDER", "Recorder", "WatchedCache", "counters_of"]


class WatchedCache(Protocol):
    """What the recorder needs of a cache."""

    events: EventStream

    def check_integrity(self) -> None:
        """Raise if the books do not balance."""


class Recorder:
    """Counts the events of this test's caches while asked to, and keeps the integers that the test adds."""

    def __init__(self) -> None:
        self.caches: list[WatchedCache] = []
        self._events = Counters()
        self._own: dict[str, int] = {}
        self._is_counting = False
        self._is_timing = False

    @property
    def counters(self) -> dict[str, int]:
        """All counters by name, sorted."""
        return dict(sorted((self._events.as_dict() | self._own).items()))

    @property
    def is_timing(self) -> bool:
        """Whether a benchmark is being timed, which nothing may disturb."""
        return self._is_timing

    def watch(self, cache: WatchedCache) -> None:
        """Know a cache from now on. One made during timing is let go: rounds make thousands of them."""
        if self._is_timing:
            return
        self.caches.append(cache)
        if self._is_counting:
            cache.events.attach(self._events)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the events of every known cache, and of those that become known meanwhile."""
        self._is_counting = True
        for cache in self.caches:
            cache.events.attach(self._events)
        try:
            yield
        finally:
            self._is_counting = False
            for cache in self.caches:
                cache.events.detach(self._events)

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Count nothing, and do not keep the caches that are made."""
        self._is_timing = True
        try:
            yield
        finally:
            self._is_timing = False

    def record(self, counters: Mapping[str, object]) -> None:
        """Add the test's own counters.

        Raises:
            TypeError: a value is not an integer; a bool is none.
            ValueError: a name is taken.
        """
        taken = self.counters
        added = {name: _as_int(name, value) for name, value in counters.items()}
        for name in sorted(taken.keys() & added.keys()):
            raise ValueError(f"counter {name!r} is there already ({taken[name]}); give this one another name")
        self._own |= added


def _as_int(name: str, value: object) -> int:
    try:
        if not isinstance(value, bool):
            return index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise TypeError(
        f"counter {name!r} is {value!r}, a {type(value).__name__}; counters are exact integers: "
        "record what is counted, not what is measured or decided"
    )


RECORDER = pytest.StashKey[Recorder]()
"""On the tests that use a fixture which counts."""


def counters_of(item: pytest.Item) -> dict[str, int]:
    """What a test has counted so far."""
    recorder = item.stash.get(RECORDER, None)
    return {} if recorder is None else recorder.counters
