"""A host tier below the pool of a replay: contents are only counted, so copies take no time."""

from collections.abc import Mapping, Sequence
from functools import partial

from pagedkv.block_ids import Int64s
from pagedkv.block_manager import BlockManager
from pagedkv.clock import VirtualClock
from pagedkv.config import CacheConfig, EvictionPolicy, OffloadConfig
from pagedkv.events import Event, EventStream, PageInEnded, PagesStored, Route
from pagedkv.offload.mover import Moved
from pagedkv.offload.tiers import PageTiers
from pagedkv.traces import TraceRequest

__all__ = ["HostTally", "page_in", "with_host_tier"]


class _CountedMover:
    """Copies nothing, at once. Nothing is read, so there is nothing to move."""

    page_bytes = 1
    num_places = 0
    bandwidth: Mapping[Route, int] = {"page_out": 1, "page_in": 1}

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._num_operations = 0
        self._ended: list[Moved] = []

    def tell(self, events: EventStream) -> None:
        """No step waits."""

    def store(self, blocks: Int64s, slots: Int64s) -> None:
        """Nothing to do."""

    def load(self, slots: Int64s, blocks: Int64s) -> int:  # noqa: ARG002 - the protocol's
        """It has ended already."""
        self._num_operations += 1
        self._ended.append(Moved(self._num_operations))
        return self._num_operations

    def spill(self, slot: int, place: int) -> int:
        """There is no file."""
        raise NotImplementedError

    def fetch(self, place: int, slot: int) -> int:
        """There is no file."""
        raise NotImplementedError

    def poll(self) -> Sequence[Moved]:
        """What was asked for since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def wait(self, timeout_s: float) -> None:
        """Nothing is under way."""

    def next_ns(self) -> int | None:
        """Nothing is under way."""
        return None

    def close(self) -> None:
        """Nothing to do."""


class HostTally:
    """A sink that counts blocks that go down and come up."""

    def __init__(self) -> None:
        self.page_ins = self.page_outs = 0

    def __call__(self, event: Event) -> None:
        """Take an event into account."""
        if isinstance(event, PagesStored):
            self.page_outs += event.num_pages
        elif isinstance(event, PageInEnded):
            self.page_ins += event.num_pages - event.num_failed


def with_host_tier(config: CacheConfig, num_host_blocks: int, policy: EvictionPolicy) -> BlockManager:
    """A cache above a host tier of so many blocks, besides those that are on their way up."""
    num_staging = min(num_host_blocks, config.num_blocks)  # a request asks for no more at once
    mover = _CountedMover(num_host_blocks + num_staging)
    settings = OffloadConfig(policy=policy)
    tiers = partial(PageTiers, mover, settings, clock=VirtualClock(), num_staging=num_staging)
    return BlockManager(config, tiers=tiers)


def page_in(cache: BlockManager, request: TraceRequest) -> None:
    """Bring what the host has of a prompt up to the device; `admit_keys` then finds it there."""
    ids = request.block_ids
    if ids is None:
        return
    prefix = cache.paged_prefix_keys(ids, num_tokens=request.num_prompt_tokens)
    if prefix.num_paged:
        up = cache.begin_page_in(prefix)
        cache.poll_page_ins()
        cache.end_page_in(up)
